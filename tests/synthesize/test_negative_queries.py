"""Negative queries: written from a query alone, verified against all evidence, chosen, balanced, and counted."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.curate import CurateByVideo
from pipeline.engines import Engines
from pipeline.outputs.explain.look_alikes import the_group_of_its_video
from pipeline.outputs.tables import Tables
from pipeline.outputs.verify.by_video import broken_by_video
from pipeline.outputs.verify.records import broken_record
from pipeline.planning.changes import not_held
from pipeline.stage import LedgerBuilder
from prompts.echo import echoes
from prompts.negative_queries import negatives_prompt, negatives_schema, parse_negatives
from prompts.reply import UnparsableReply
from prompts.template import load_template
from schemas.check import InvalidRecord
from schemas.example import EDITS, Example, ExampleCandidate, NegativeQueries, NegativeQuery, Rewording, VideoExample
from schemas.query import Judgement, Margin
from schemas.tables import row_of
from schemas.video import AsrSegment, EngineStamp, Evidence
from tests.judge.test_judge import reply_of, video_of
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from tests.support.tiny_output import write_tables
from transforms.curate.choose_negatives import choose, video_examples
from transforms.curate.concept_balance import Balance, DropOneSided, Holds, held, surplus
from transforms.engines.stand_ins.rules import RuleTeacher
from transforms.journal.budget import Budget
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions
from transforms.judge.verify_negatives import _verify
from transforms.protocols.teacher import Ladder, TeacherFailed, TeacherReply, TeacherRequest
from transforms.synthesize.filter_queries import TextFilters
from transforms.synthesize.negative_queries import (
    NegativeQueriesConfig,
    _filter,
    _write,
    is_no_rewording,
    reject_reason,
    write_negatives,
)

STAMP = EngineStamp("scripted", "1", "", "f" * 16)
QUERY = "which bridge in Lyon did the flood of 2019 close"
VIDEO = video_of("lyon", caption="A bridge.", asr=(AsrSegment(0.0, 2.0, "the flood closed it", 0.9),))
WORDINGS = {
    name: JudgeOptions(("caption", "asr", "ocr", "metadata"), template=load_template(name))
    for name in ("judge", "judge_reworded")
}


def candidate(video_id="lyon", label=1):
    stratum = "positive" if label else "trusted_negative"
    said = "yes" if label else "no"
    return ExampleCandidate(video_id, label, stratum, said, None, None, None, None, "label_only", "", None, None)


def example_of(query=QUERY, query_id="q1"):
    candidates = (candidate(), candidate("other", 0))
    return Example(query_id, query, "train", "human", None, None, (), "", candidates)


def negative(text, edit="year", query_id="q1"):
    return NegativeQuery(NegativeQuery.id_of(query_id, text), text, edit)


def group(*negatives, example=None):
    return NegativeQueries(example or example_of(), STAMP, negatives)


def reply(*queries, reworded=""):
    written = [{"change": "c", "edit": edit, "query": text} for edit, text in queries]
    return json.dumps({"reworded": reworded, "queries": written})


def parted(outputs):
    """The main outputs, and the reasons of losses by kind."""
    main = [one for one in outputs if not isinstance(one, beam.pvalue.TaggedOutput)]
    lost = [one.value for one in outputs if isinstance(one, beam.pvalue.TaggedOutput)]
    return main, Counter((one.kind, one.stage, one.step, one.reason) for one in lost)


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


@pytest.mark.parametrize(
    ("text", "left", "reason"),
    [
        ("both say yes", True, None),
        ("both say no", False, "not answered"),
        ("one says yes", False, "in doubt"),
        ("one cannot be read", False, "not yes/no"),
    ],
)
def test_a_rewording_stands_where_both_wordings_say_yes(text, left, reason, journal):
    asked = replace(group(negative("both say no")), rewording=Rewording(text))

    (kept,), lost = parted(list(_verify((asked, VIDEO), ScriptedEngine(scripted), journal, WORDINGS)))

    assert (kept.rewording is not None) == left
    assert lost == ({("rejected", "judge", "verify rewordings", reason): 1} if reason else {})
    if kept.rewording:
        assert kept.rewording.judgement.label == "yes"


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


ANSWERS = {  # to the text, by wording: the first is asked by the project's own prompt
    "both say no": ("no", "no"),
    "both say yes": ("yes", "yes"),
    "one says yes": ("no", "yes"),
    "one cannot be read": ("no", "perhaps"),
    "one fails": ("no", None),
}


def scripted(request):
    first = request.prompt.version == load_template("judge").version
    said = ANSWERS[request.query][0 if first else 1]
    if said is None:
        return TeacherFailed("gone", permanent=True)
    return reply_of(said, no=0.9 if first else 0.8, yes=0.1 if first else 0.2) if said == "no" else reply_of(said)


def test_a_negative_is_kept_where_both_wordings_say_no_and_has_the_less_sure_margin(journal):
    asked = group(*map(negative, ANSWERS))

    (kept,), lost = parted(list(_verify((asked, VIDEO), ScriptedEngine(scripted), journal, WORDINGS)))

    (found,) = kept.queries
    assert (found.text, found.judgement.label) == ("both say no", "no")
    assert found.judgement.margin.p_yes == pytest.approx(0.2)
    assert kept.verifier == STAMP
    assert lost == {
        ("rejected", "judge", "verify", "answerable"): 1,
        ("rejected", "judge", "verify", "in doubt"): 1,
        ("rejected", "judge", "verify", "not yes/no"): 1,
        ("failed", "judge", "verify", "TeacherFailed"): 1,
    }


def test_the_verifier_is_asked_of_all_modalities_first_in_one_wording_and_then_in_the_other(journal):
    asked = []

    def script(request):
        asked.append(request)
        return reply_of("no", no=0.9, yes=0.1)

    list(_verify((group(negative("one"), negative("two")), VIDEO), ScriptedEngine(script), journal, WORDINGS))

    assert [request.query for request in asked] == ["one", "two", "one", "two"]
    assert [request.prompt.version for request in asked[1:3]] == [load_template(name).version for name in WORDINGS]
    assert all("the flood closed it" in request.prompt.user for request in asked)


def test_a_group_with_a_question_left_for_later_waits_as_a_whole_and_ends_as_if_it_had_not(tmp_path):
    asked, engine = group(*map(negative, ANSWERS)), ScriptedEngine(scripted)

    def verified(root, **options):
        with closing(Journal(str(tmp_path / root), **options)) as journal:
            return parted(list(_verify((asked, VIDEO), engine, journal, WORDINGS)))

    (whole,), lost = verified("whole")
    (waiting,), waits = verified("cut", budget=Budget(max_calls=7))
    assert waiting.queries == ()
    assert {kind for kind, *_ in waits} == {"deferred", "rejected"}
    assert waits.total() == len(ANSWERS)
    assert verified("cut") == ([whole], lost)


def test_the_calls_of_writer_and_verifier_are_foretold_exactly(tmp_path):
    made = []

    def script(request):
        made.append(request.task)
        if request.task == "negative_queries":
            return TeacherReply(reply(*(("year", text) for text in ANSWERS)))
        return scripted(request)

    engine = ScriptedEngine(script)

    def run(**options):
        with closing(Journal(str(tmp_path), note=not_held, **options)) as journal:
            (written, *_), _ = parted(list(_write(example_of(), engine, journal, 8, 0, None)))
            list(_verify((written, VIDEO), engine, journal, WORDINGS))
            return journal.misses()

    with closing(Journal(str(tmp_path), note=not_held, look_only=True)) as looking:
        parted(list(_write(example_of(), engine, looking, 8, 0, None)))
        assert [miss.step for miss in looking.misses()] == ["negatives"]
    run(budget=Budget(max_calls=4))
    missing = Counter((miss.step, miss.why) for miss in run(look_only=True))
    made.clear()
    run()

    assert missing == {("verify", "new"): 2 * len(ANSWERS) - 3}
    assert made == ["judge"] * (2 * len(ANSWERS) - 3)
    made.clear()
    run()
    assert made == []


def test_the_story_of_a_query_tells_what_looks_like_it(tmp_path):
    judged = Judgement("n", "lyon", False, "no", "Another year.", Margin(-4.0, -4.0, -4.0), "logprobs", STAMP, "no", "")
    one = negative("which bridge in Lyon did the flood of 2021 close")
    (found,) = video_examples(replace(group(replace(one, judgement=judged)), verifier=STAMP))
    row = row_of(found)
    files = write_tables(str(tmp_path), {"ranking_by_video": [(row.pop("split"), row)]}, ["ranking_by_video"])

    told = " ".join("\n".join(the_group_of_its_video(Tables(str(tmp_path), tuple(files)), "q1")).split())

    assert "verified by scripted 1" in told
    assert f"year which bridge in Lyon did the flood of 2021 close ({one.query_id}) no, margin -4.00: Another" in told
    assert list(the_group_of_its_video(Tables(str(tmp_path), tuple(files)), "q2")) == []


def test_the_first_of_every_kind_is_chosen_before_the_second_of_any():
    written = [negative(f"{edit} {n}", edit) for n, edit in enumerate(("year", "year", "year", "order", "place"))]

    assert [query.text for query in choose(written, 3)] == ["year 0", "order 3", "place 4"]
    assert [query.text for query in choose(written, 4)] == ["year 0", "year 1", "order 3", "place 4"]
    assert choose(written, 9) == written


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


JUDGED = Judgement("n1", "lyon", False, "no", "it is of 2019", Margin(-3.0, -3.0, -3.0), "logprobs", STAMP, "no", "")


def test_a_group_of_one_video_is_written_verified_chosen_and_counted(journal):
    texts = ["both say no", "both say yes", *(f"which bridge did flood number {n} close" for n in range(4))]

    def script(request):
        if request.task == "negative_queries":
            again = "which crossing in Lyon was shut by high water in 2019"
            return TeacherReply(reply(*(("year", text) for text in texts), reworded=again))
        return scripted(replace(request, query="both say no" if request.query.startswith("which") else request.query))

    engine, ledger = ScriptedEngine(script), LedgerBuilder()
    filters = TextFilters(min_words=3)
    engines = Engines(None, None, None, None, engine, (), engine, negatives=engine, verifier=engine)
    config = NegativeQueriesConfig(queries=6, kept=2, reworded=1.0)
    template = load_template("negative_queries")
    step = CurateByVideo(config, filters, engines, journal, template, WORDINGS, 0, ledger)
    with beam.Pipeline() as pipeline:
        given = (pipeline | "e" >> beam.Create([example_of()]), pipeline | "v" >> beam.Create([VIDEO]))
        found = given | step
        tallies = ledger.tallies(pipeline) | beam.Map(lambda one: (one.step, one.outcome, one.reason, one.count))
        first = [QUERY, "both say no", texts[2]]
        assert_that(found | beam.Map(lambda one: [each.query for each in one.candidates]), equal_to([first]))
        expected = [
            ("negatives", "in", "", 1),
            ("negatives", "out", "", 1),
            ("filter negatives", "in", "", 6),
            ("filter negatives", "out", "", 6),
            ("verify", "in", "", 6),
            ("verify", "out", "", 5),
            ("verify", "rejected", "answerable", 1),
            ("negatives", "in", "", 5),
            ("negatives", "out", "", 2),
            ("negatives", "rejected", "surplus negative", 3),
            ("filter rewordings", "in", "", 1),
            ("filter rewordings", "out", "", 1),
            ("verify rewordings", "in", "", 1),
            ("verify rewordings", "rejected", "not answered", 1),
        ]
        assert_that(tallies, equal_to(expected), "ledger")


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
