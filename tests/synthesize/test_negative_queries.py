"""Queries that look like another: how they are asked for, read and filtered, and that one put in other words."""

import json

import apache_beam as beam
import pytest

from prompts.echo import echoes
from prompts.negative_queries import negatives_prompt, negatives_schema, parse_negatives
from prompts.reply import UnparsableReply
from prompts.template import load_template
from schemas.example import EDITS, NegativeQuery, Rewording
from schemas.video import Evidence
from tests.support.look_alikes import (
    QUERY,
    example_of,
    group,
    negative,
    parted,
    reply,
)
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from transforms.protocols.teacher import TeacherReply
from transforms.synthesize.filter_queries import TextFilters
from transforms.synthesize.negative_queries import (
    _filter,
    _write,
    is_no_rewording,
    reject_reason,
    write_negatives,
)


def test_the_writer_is_shown_the_query_and_nothing_of_its_video():
    teacher = ScriptedTeacher(
        lambda _: TeacherReply(reply(("year", "which bridge in Lyon did the flood of 2021 close")))
    )

    (found,), _ = write_negatives(teacher, "q1", QUERY, count=3)

    (asked,) = teacher.asked
    assert asked.evidence == Evidence()
    assert QUERY in asked.prompt.user
    assert (found.text, found.edit) == ("which bridge in Lyon did the flood of 2021 close", "year")
    assert found.query_id == NegativeQuery.id_of("q1", found.text)


def test_what_a_query_says_is_data_in_the_prompt():
    shown = negatives_prompt('a "quoted" <|im_end|> query', 3).user

    assert '"a ”quoted” ‹|im_end|› query"' in shown


def test_every_kind_of_change_is_told_and_asked_for():
    template = load_template("negative_queries")

    assert [edit for edit in EDITS if f"- {edit}: " not in template.source] == []
    assert template.slots == {"query", "count"}
    form = negatives_schema(5)["properties"]["queries"]
    assert (form["maxItems"], form["items"]["properties"]["edit"]["enum"]) == (5, list(EDITS))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("", "empty reply"),
        ("none come to mind", "not json"),
        ('{"queries": []}', "no queries"),
        (reply(("colour", "a red tram in Linden leaves")), "wrong schema"),
        (reply(("year", "   ")), "wrong schema"),
        ('{"queries": [{"edit": "year", "query": "\\ud800 of"}]}', "not json"),
        (reply(("year", "why did bakers on Quarry Lane lend out their ovens before the 1979 harvest fair")), "echoes"),
    ],
)
def test_a_reply_that_holds_no_negatives_says_why(said, reason):
    with pytest.raises(UnparsableReply) as caught:
        parse_negatives(said)

    assert caught.value.reason.startswith(reason)


def test_the_example_of_the_prompt_is_what_a_reply_looks_like_and_no_answer_to_another_query():
    template = load_template("negative_queries")
    example = next(line for line in template.source.splitlines() if line.startswith('{"reworded"'))
    texts = [item["query"] for item in json.loads(example)["queries"]]

    assert all(echoes(text, template) for text in texts)
    assert [draft.edit for draft in parse_negatives(reply(("order", QUERY))).drafts] == ["order"]
    echoed = json.loads(example)["reworded"]
    assert parse_negatives(reply(("order", QUERY), reworded=echoed)).reworded == ""
    assert parse_negatives(reply(("order", QUERY), reworded="a  bridge\nshut")).reworded == "a bridge shut"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Which bridge in Lyon did the flood of 2019 close?", "unchanged"),
        ("which bridge in Lyon did the flood of 2020 close", "written twice"),
        ("flood of 2020", "too short"),
        ("which bridge in Lyon does the video show in 2020", "mentions video"),
        ("welche Brücke in Lyon wurde beim Hochwasser von 2020 gesperrt", "wrong language"),
        ("which bridge in Nice did the flood of 2019 close", None),
    ],
)
def test_what_cannot_be_a_negative_whatever_the_video_is_dropped_with_a_reason(text, reason):
    found = reject_reason(text, QUERY, ["which bridge in Lyon did the flood of 2020 close"], TextFilters())

    assert (found and found[0]) == reason


def test_what_looks_like_a_long_request_may_be_as_long():
    request, other = (f"i teach history {' '.join([word] * 60)}" for word in ("floods", "fires"))

    assert reject_reason(other, request, (), TextFilters(languages=("en",), min_language_probability=0.0)) is None
    assert reject_reason(other, QUERY, (), TextFilters())[0] == "too long"


def test_dropped_ones_are_counted_and_told_by_their_text():
    outputs = list(_filter(group(negative(QUERY), negative("which bridge in Nice did it close")), TextFilters()))

    (kept,), lost = parted(outputs)
    assert [query.text for query in kept.queries] == ["which bridge in Nice did it close"]
    assert lost == {("rejected", "synthesize", "filter negatives", "unchanged"): 1}
    (loss,) = [one.value for one in outputs if isinstance(one, beam.pvalue.TaggedOutput)]
    assert loss.detail == f"year: {QUERY} (it is the query itself)"
    assert (loss.query_id, loss.video_id) == ("q1", "lyon")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("the crossing in Lyon that high water of 2019 shut", None),
        ("the crossing in Lyon that high water of 2020 shut", "other numbers"),
        ("the crossing in Lyon that high water of 2019 did not shut", "negation"),
        ("Which bridge in Lyon did the flood of 2019 close?", "unchanged"),
        ("what the video of 2019 says of a closed bridge", "mentions video"),
    ],
)
def test_a_rewording_keeps_numbers_and_negation_and_changes_words(text, reason):
    found = is_no_rewording(text, QUERY, (), TextFilters())

    assert (found and found[0]) == reason


def test_half_of_the_true_queries_are_reworded_whichever_they_are(journal):
    engine = ScriptedEngine(lambda _: TeacherReply(reply(("year", "a b c d"), reworded="the same")))

    def reworded(share):
        examples = (example_of(query_id=f"q{n}") for n in range(40))
        written = (next(iter(_write(one, engine, journal, 3, 0, None, share))) for one in examples)
        return [one.query_id for one in written if one.rewording == Rewording("the same")]

    assert reworded(0.0) == []
    assert 10 < len(reworded(0.5)) < 30
    assert set(reworded(0.5)) < set(reworded(1.0))
