"""Which negative queries are chosen, and the groups of one video that they make."""

from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.outputs.verify.by_video import broken_by_video
from pipeline.outputs.verify.records import broken_record
from prompts.negative_queries import negatives_prompt, parse_negatives
from schemas.check import InvalidRecord
from schemas.example import Rewording, VideoExample
from schemas.people.mark import Mark
from schemas.query import Judgement, Margin
from schemas.tables import row_of
from schemas.video import Evidence
from tests.support.look_alikes import JUDGED, QUERY, STAMP, example_of, group, negative
from transforms.curate.choose_negatives import _choose, choose, video_examples
from transforms.curate.concept_balance import Balance, DropOneSided, Holds, held, surplus
from transforms.engines.stand_ins.rules import RuleTeacher
from transforms.protocols.teacher import Ladder, TeacherRequest


def test_a_reworded_query_is_the_true_one_of_its_group_with_its_own_verdict_and_words_to_balance():
    said = Judgement("q1", "lyon", False, "yes", "it is", Margin(2.0, 2.0, 2.0), "logprobs", STAMP, "yes", "")
    one = replace(negative("which bridge in Lyon did the flood of 2021 close"), judgement=JUDGED)
    asked = replace(group(one), verifier=STAMP, rewording=Rewording("the crossing that high water of 2019 shut", said))

    (example,) = video_examples(asked)
    row = row_of(example)
    row["candidates"] = list(row["candidates"])

    assert example.reworded_from == QUERY
    true = example.candidates[0]
    assert (true.query, true.delta) == ("the crossing that high water of 2019 shut", 2.0)
    assert held(asked)["cross"].positives == 1
    assert held(asked)["bridg"] == Holds(0, 1)
    assert broken_record("ranking_by_video", row) is None
    assert list(broken_by_video(row, "lyon", QUERY)) == []
    assert [rule for _, rule in broken_by_video({**row, "reworded_from": "another"}, "lyon", QUERY)] == [
        "its true query is not that of its ranking group"
    ]


def test_the_first_of_every_kind_is_chosen_before_the_second_of_any():
    written = [negative(f"{edit} {n}", edit) for n, edit in enumerate(("year", "year", "year", "order", "place"))]

    assert [query.text for query in choose(written, 3)] == ["year 0", "order 3", "place 4"]
    assert [query.text for query in choose(written, 4)] == ["year 0", "year 1", "order 3", "place 4"]
    assert choose(written, 9) == written


def test_a_negative_that_people_mark_is_left_out_and_another_takes_its_place():
    written = [negative(f"{edit} {n}", edit) for n, edit in enumerate(("year", "order", "place"))]
    first, second, third = (query.query_id for query in written)
    marks = {
        first: {"lyon": Mark(first, "lyon", "false negative", "it does show 2021")},
        second: {"": Mark(second, "", "bad query")},
        third: {"rome": Mark(third, "rome", "false negative")},  # of a video that it is no negative of
    }

    chosen = list(_choose(group(*written), 1, marks))

    assert [query.text for query in chosen[-1].queries] == ["place 2"]
    assert [(loss.value.reason, loss.value.detail) for loss in chosen[:-1]] == [
        ("marked false negative", "year: year 0 (it does show 2021)"),
        ("marked bad query", "order: order 1 (by a person)"),
    ]


def test_words_are_counted_once_a_query_and_only_where_there_are_negatives():
    found = held(group(negative("a tram not a bus"), negative("a bus")))

    assert (found["tram"], found["bus"], found["bridg"]) == (Holds(0, 1), Holds(0, 2), Holds(1, 0))
    assert held(group()) == {}


def test_a_word_may_be_in_twice_as_many_negatives_as_by_an_even_spread_and_a_few_more():
    balance = Balance(kept=3, spare=2)

    assert [balance.most(Holds(positives, 99)) for positives in (0, 1, 10)] == [2, 8, 62]
    assert surplus("cab", Holds(0, 3), balance) == ["c"]


def test_negatives_that_a_word_gives_away_are_dropped_down_to_what_is_spare():
    groups = [
        group(
            negative(f"which bridge did flood {n} not close", "negation", f"q{n}"),
            negative(f"which bridge did flood {n + 40} close", "number", f"q{n}"),
            example=example_of(f"which bridge did flood {n} close", f"q{n}"),
        )
        for n in range(9)
    ]
    by_id = sorted(one.queries[0].query_id for one in groups)
    stay = {*by_id[:2], *(one.queries[1].query_id for one in groups)}
    left = [(one.query_id, [query.edit for query in one.queries if query.query_id in stay]) for one in groups]

    with beam.Pipeline() as pipeline:
        found = pipeline | beam.Create(groups) | DropOneSided(Balance(kept=2, spare=2))
        assert_that(found.groups | beam.Map(lambda one: (one.query_id, [q.edit for q in one.queries])), equal_to(left))
        why = found.losses | beam.Map(lambda loss: (loss.reason, loss.detail.partition(" (")[2]))
        assert_that(why, equal_to([("one-sided word", "'not' is in 9 negatives, 0 positives)")] * 7), "losses")


def by_video():
    text = "which bridge in Lyon did the flood of 2021 close"
    found = replace(group(replace(negative(text), judgement=JUDGED)), verifier=STAMP)
    (example,) = video_examples(found)
    return example


def test_an_example_of_a_video_has_the_true_query_first_and_none_without_negatives():
    example = by_video()

    assert [(one.label, one.edit, one.teacher_label) for one in example.candidates] == [
        (1, None, "yes"),
        (0, "year", "no"),
    ]
    assert example.candidates[1].p_yes == pytest.approx(JUDGED.margin.p_yes)
    assert list(video_examples(replace(group(), verifier=STAMP))) == []


def test_a_negative_that_a_teacher_says_yes_to_is_refused():
    true, false = by_video().candidates

    with pytest.raises(InvalidRecord, match="says no of a negative"):
        replace(false, teacher_label="yes")
    with pytest.raises(InvalidRecord, match="the true query, then its negatives"):
        VideoExample("q1", "lyon", "train", STAMP, STAMP, (false, true))


def test_a_row_of_one_video_is_held_against_its_ranking_group():
    row = row_of(by_video())
    row["candidates"] = list(row["candidates"])
    assert broken_record("ranking_by_video", row) is None
    assert list(broken_by_video(row, "lyon", QUERY)) == []

    assert [rule for _, rule in broken_by_video(row, "nice", QUERY)] == ["its video 'lyon' is not its query's"]
    row["candidates"][1] |= {"query": "another text", "p_yes": 0.5}
    rules = [rule for _, rule in broken_by_video(row, "lyon", "another query")]
    assert rules[0] == "its true query is not that of its ranking group"
    assert rules[1].startswith("p_yes must be sigmoid(delta)")
    assert rules[2] == "its id is not that of its text"
    row["candidates"] = row["candidates"][:1]
    assert "the true query, then its negatives" in broken_record("ranking_by_video", row).rule


def test_the_rules_change_what_a_query_has_and_keep_its_form():
    request = TeacherRequest("negative_queries", negatives_prompt(QUERY, 8), Evidence(), query=QUERY, count=8, seed=3)

    found = {draft.edit: draft.text for draft in parse_negatives(RuleTeacher().reply(request).text).drafts}

    assert found["year"] != QUERY
    assert found["year"].startswith("which bridge in Lyon did the flood of ")
    assert found["negation"] == "which bridge in Lyon did not the flood of 2019 close"
    assert found["information"].startswith("which ")
    assert RuleTeacher().reply(request) == RuleTeacher().reply(request)
    assert Ladder(("rules",)) == RuleTeacher.ladder
