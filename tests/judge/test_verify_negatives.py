"""Negative queries are verified in two wordings, foretold, left for later, and told."""

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
from pipeline.planning.changes import not_held
from pipeline.stage import LedgerBuilder
from prompts.template import load_template
from schemas.example import Rewording
from schemas.query import Judgement, Margin
from schemas.tables import row_of
from tests.judge.test_judge import reply_of
from tests.support.look_alikes import JUDGED, QUERY, STAMP, VIDEO, WORDINGS, example_of, group, negative, parted, reply
from tests.support.scripted_teacher import ScriptedEngine
from tests.support.tiny_output import write_tables
from transforms.curate.choose_negatives import video_examples
from transforms.journal.budget import Budget
from transforms.journal.journal import Journal
from transforms.judge.verify_negatives import _verify, affirmed, denied
from transforms.protocols.teacher import TeacherFailed, TeacherReply
from transforms.synthesize.filter_queries import TextFilters
from transforms.synthesize.negative_queries import (
    NegativeQueriesConfig,
    _write,
)


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


@pytest.mark.parametrize(("rule", "word", "other"), [(denied, "no", 1.0), (affirmed, "yes", -1.0)])
def test_a_word_that_its_own_margin_contradicts_is_in_doubt(rule, word, other):
    """As SmolLM2's no to a query in other words, which had a margin of +4.65 nats: a grammar forbade its "Yes"."""
    sure = replace(JUDGED, label=word, margin=Margin(-3.0 * other, -3.0 * other, -3.0 * other))
    contradicted = replace(sure, margin=Margin(4.65 * other, 4.65 * other, 4.65 * other))

    assert rule([sure, sure]) == sure
    assert (
        rule([sure, contradicted])
        == rule([contradicted, sure])
        == ("in doubt", f"a {word} with a margin of {4.65 * other:+.2f}")
    )
    assert rule([sure, replace(sure, margin=None, confidence_source="label_only")]).margin is None


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
