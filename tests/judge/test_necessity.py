"""What labels rest on: the judge is asked again without one modality, and what it says then is told and counted."""

import json
from collections import Counter
from contextlib import closing
from dataclasses import replace

import apache_beam as beam
import pytest

from pipeline.config import JudgeConfig, RecipeError, load_recipe
from pipeline.engines import Engines
from pipeline.judge import FindNecessities
from pipeline.outputs.errors import UnwritableExport
from pipeline.outputs.explain.how_judged import what_the_label_rests_on
from pipeline.outputs.export.peers import export_clamr
from pipeline.outputs.measured.necessity import count_necessities
from pipeline.outputs.report.card import render_card
from pipeline.outputs.report.complete import complete
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from pipeline.outputs.tables import written
from pipeline.outputs.verify.necessity import broken_necessity
from pipeline.outputs.verify.records import broken_record
from pipeline.planning.changes import not_held
from pipeline.planning.forecast import Flow, present
from pipeline.stage import LedgerBuilder
from prompts.template import load_template
from schemas.check import InvalidRecord
from schemas.example import Example, ExampleCandidate, Necessity, Without, rests_on
from schemas.query import Margin, QueryText
from schemas.tables import row_of
from schemas.video import AsrSegment, Evidence, Metadata
from tests.judge.test_judge import reply_of
from tests.support.ranking_records import video
from tests.support.scripted_teacher import ScriptedEngine
from tests.support.tiny_output import ALWAYS, RECIPE, tiny_rows, tiny_run_info, write_tables, write_tiny
from transforms.journal.budget import Budget
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions
from transforms.judge.necessity import NecessityConfig, Positive, _find, left_out, positives_of
from transforms.protocols.teacher import Ladder, TeacherFailed, TeacherReply
from transforms.storage.files import write_bytes

ALL = JudgeOptions(("metadata", "caption", "asr", "ocr"))
SPOKEN = "the dam held until four in the morning"
VIDEO = replace(
    video("dam"),
    evidence=Evidence("A dam.", (AsrSegment(0.0, 2.0, SPOKEN, 0.9),), (), Metadata("The dam", language="en")),
)
QUERY = QueryText("q1", "when did the dam give way")


def candidate(video_id="dam", stratum="positive", delta=5.0):
    label = int("positive" in stratum)
    said, margin = ("yes", Margin(delta, delta, delta)) if label else ("no", Margin(-9.0, -9.0, -9.0))
    values = (margin.delta, margin.lo, margin.hi, margin.p_yes)
    return ExampleCandidate(video_id, label, stratum, said, *values, "logprobs", "because", 1, 1.0)


def example(query_id="q1", *more):
    found = (candidate(), *more, candidate("other", "trusted_negative"))
    return Example(query_id, QUERY.text, "train", "human", None, "asr", (), "", found)


def by_speech(request):
    """Says no without the speech, and is less sure without the caption."""
    if SPOKEN not in request.prompt.user:
        return reply_of("no", no=0.9, yes=0.1)
    return reply_of("yes", yes=0.99 if request.evidence.caption else 0.8, no=0.01 if request.evidence.caption else 0.2)


def found_with(script, journal, of_video=VIDEO, options=ALL):
    """What comes out of one positive, and its losses."""
    positive = Positive(QUERY, candidate(of_video.video_id))
    outputs = list(_find((positive, of_video), ScriptedEngine(script), journal, options))
    lost = [one.value for one in outputs if isinstance(one, beam.pvalue.TaggedOutput)]
    return [one for one in outputs if isinstance(one, Necessity)], lost


def test_a_label_rests_on_what_turns_its_yes_into_a_no(journal):
    (found,), lost = found_with(by_speech, journal)

    assert lost == []
    assert found.shown == ("caption", "asr", "metadata")
    assert [(one.modality, one.teacher_label) for one in found.without] == [
        ("caption", "yes"),
        ("asr", "no"),
        ("metadata", "yes"),
    ]
    assert (found.rests_on, found.target_modality) == (("asr",), "asr")
    drops = {one.modality: one.drop for one in found.without}
    assert drops["asr"] == pytest.approx(5.0 - found.without[1].delta)
    assert drops["asr"] > drops["caption"] > drops["metadata"]


def test_each_question_leaves_out_one_modality_and_is_otherwise_that_of_the_judge(journal):
    asked = []

    def script(request):
        asked.append(request)
        return by_speech(request)

    found_with(script, journal)

    assert [request.evidence.present for request in asked] == [
        ("asr", "metadata"),
        ("caption", "metadata"),
        ("caption", "asr"),
    ]
    assert {request.query for request in asked} == {QUERY.text}
    assert len({request.seed for request in asked}) == 1
    assert {request.prompt.version for request in asked} == {load_template("judge").version}


def test_a_label_of_one_modality_rests_on_it_and_nobody_is_asked(journal):
    (found,), lost = found_with(None, journal, options=JudgeOptions(("asr", "ocr")))

    assert (found.rests_on, found.without, found.unseen) == (("asr",), (), ("caption", "metadata"))
    assert found.target_modality == "asr"
    assert lost == []
    assert left_out(VIDEO, JudgeOptions(("asr", "ocr"))) == ()


def test_where_several_tell_the_same_a_label_rests_on_no_single_one(journal):
    (found,), _ = found_with(lambda request: reply_of("yes"), journal)

    assert (found.rests_on, found.target_modality) == ((), None)


def test_without_margins_there_is_no_drop_and_the_words_decide(journal):
    def script(request):
        said = "no" if SPOKEN not in request.prompt.user else "yes"
        return TeacherReply(f"<think>so</think><answer>{said}</answer>")

    (found,), _ = found_with(script, journal)

    assert [one.drop for one in found.without] == [None, None, None]
    assert (found.rests_on, found.target_modality) == (("asr",), "asr")


def test_a_question_that_gets_no_verdict_is_lost_and_the_others_stand(journal):
    def script(request):
        if not request.evidence.caption:
            return TeacherReply("I cannot tell.")
        return TeacherFailed("gone", permanent=True) if SPOKEN not in request.prompt.user else reply_of("no")

    (found,), lost = found_with(script, journal)

    assert [one.modality for one in found.without] == ["metadata"]
    assert [(one.kind, one.stage, one.step, one.reason) for one in lost] == [
        ("rejected", "judge", "necessity", "no answer"),
        ("failed", "judge", "necessity", "TeacherFailed"),
    ]
    assert [one.detail.partition(":")[0] for one in lost] == ["without caption", "without asr"]


def test_where_no_question_gets_a_verdict_nothing_is_said(journal):
    found, lost = found_with(lambda request: TeacherReply("I cannot tell."), journal)

    assert (found, len(lost)) == ([], 3)


def test_a_positive_with_a_question_left_for_later_waits_as_a_whole_and_ends_as_if_it_had_not(tmp_path):
    def run(root, **options):
        with closing(Journal(str(tmp_path / root), **options)) as journal:
            return found_with(by_speech, journal)

    whole, _ = run("whole")
    found, lost = run("cut", budget=Budget(max_calls=2))
    assert found == []
    assert Counter(one.kind for one in lost) == {"deferred": 3}
    assert run("cut") == (whole, [])


@pytest.mark.parametrize("ladder", [Ladder(("logprobs",)), Ladder(("sampling",), samples=3)])
def test_its_calls_are_foretold_exactly_by_keys_of_their_own(tmp_path, ladder):
    made = []

    def script(request):
        made.append(request)
        return reply_of("yes")

    def run(**options):
        positive = Positive(QUERY, candidate())
        with closing(Journal(str(tmp_path), note=not_held, **options)) as journal:
            list(_find((positive, VIDEO), ScriptedEngine(script, ladder), journal, ALL))
            return journal.misses()

    missing = run(look_only=True)
    assert {miss.step for miss in missing} == {"necessity"}
    assert [miss.subject for miss in missing] == [f"q1 dam without {name}" for name in ("caption", "asr", "metadata")]
    run()
    assert len(made) == 3 * (1 + (ladder.samples if "sampling" in ladder.rungs else 0))
    made.clear()
    run()
    assert made == []


def test_positives_are_those_of_groups_and_of_a_share_the_same_groups_whatever_else_there_is():
    twin = candidate("twin", "confirmed_positive", 2.0)

    assert [one.video_id for one in positives_of(example("q1", twin), 1.0, 0)] == ["dam", "twin"]
    chosen = {f"q{n}" for n in range(400) if list(positives_of(example(f"q{n}"), 0.25, 0))}
    assert 70 < len(chosen) < 130
    assert chosen <= {f"q{n}" for n in range(400) if list(positives_of(example(f"q{n}"), 0.5, 0))}
    assert chosen != {f"q{n}" for n in range(400) if list(positives_of(example(f"q{n}"), 0.25, 1))}


def test_in_a_run_questions_are_what_its_ledger_counts(tmp_path):
    config = JudgeConfig({}, modalities=("caption", "asr", "metadata"), necessity=NecessityConfig())
    engines = Engines(None, None, None, None, None, (), ScriptedEngine(by_speech))
    ledger = LedgerBuilder()
    with closing(Journal(str(tmp_path))) as journal, beam.Pipeline("FnApiRunner") as pipeline:
        inputs = pipeline | "Examples" >> beam.Create([example()]), pipeline | "Videos" >> beam.Create([VIDEO])
        find = FindNecessities(config, engines, journal, load_template("judge"), 0, ledger)
        rested = inputs | find | beam.Map(lambda one: (one.query_id, one.video_id, one.rests_on))
        tallies = ledger.tallies(pipeline) | beam.Map(lambda one: (one.stage, one.step, one.outcome, one.count))
        beam.testing.util.assert_that(rested, beam.testing.util.equal_to([("q1", "dam", ("asr",))]), "rested")
        counts = [("judge", "necessity", "in", 3), ("judge", "necessity", "out", 3)]
        beam.testing.util.assert_that(tallies, beam.testing.util.equal_to(counts), "tallies")
    assert ledger.steps == [("judge", "necessity")]


def without(modality, label="yes", delta=4.0, of=5.0):
    margin = Margin(delta, delta, delta)
    values = (margin.delta, margin.lo, margin.hi, margin.p_yes)
    return Without(modality, of - delta, label, *values, "logprobs", "because")


def necessity(*left, shown=("caption", "asr"), query_id="q1", video_id="dam", delta=5.0, unseen=()):
    return Necessity(query_id, video_id, delta, shown, unseen, left, rests_on(shown, left))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"rests_on": ("caption",)}, "a yes rests on"),
        ({"shown": ("asr", "caption")}, "in their order"),
        ({"unseen": ("asr",)}, "what was shown was seen"),
        ({"shown": ("caption", "ocr")}, "only what was shown"),
        ({"without": (without("caption"), replace(without("asr", "no"), drop=2.0))}, "drop is delta less"),
        ({"delta": None}, "drop is delta less"),
        ({"without": (), "rests_on": ()}, "of several modalities one is left out"),
    ],
)
def test_a_record_that_contradicts_itself_is_refused(changes, rule):
    good = necessity(without("caption"), without("asr", "no", -2.0))

    with pytest.raises(InvalidRecord, match=rule):
        replace(good, **changes)


def test_with_one_modality_for_the_judge_there_is_nothing_to_leave_out():
    with pytest.raises(RecipeError, match="of one nothing can be left out"):
        load_recipe("rankvideo", ["judge.necessity={share: 1}"])
    with pytest.raises(RecipeError, match="share"):
        load_recipe("demo", ["judge.necessity={share: 0}"])
    costs = load_recipe("demo", ["judge.necessity={}", "costs.judge.input_price=2"]).costs.by_step()
    assert costs["necessity"] == costs["judge"]


def test_a_plan_reckons_with_what_was_seen_and_else_with_what_may_be_there():
    recipe = load_recipe("demo", ["judge.necessity={share: 0.5}", "extract.asr=null"])
    assert present(recipe) == ["caption", "ocr", "metadata"]

    def calls(counts, **options):
        return Flow(recipe, counts, {"write": 0}, {"write": 0}, 0, Ladder(("sampling",), 3), **options).necessity_calls(
            40
        )

    assert calls({}, prompts=3.0) == 40 * 0.5 * 2 * 4  # a prompt of all, and two others
    assert calls({}, prompts=1.5) == 0.0
    assert calls({"curate/queries": {"out": 10}, "judge/necessity": {"in": 25}}) == 40 * 2.5 * 4
    assert Flow(load_recipe("demo"), {}, {}, {}, 0, Ladder(())).necessity_calls(40) == 0.0


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The tiny output, of whose first positives two rest on speech, one on nothing and one on all that was shown."""
    folder = str(tmp_path_factory.mktemp("necessity"))
    rows = tiny_rows()
    info = tiny_run_info()
    judge = {"modalities": ["caption", "asr", "ocr"], "necessity": {"share": 0.1}}
    info = replace(info, recipe={**RECIPE, "judge": judge})
    kinds = (
        ("caption", "asr", lambda of: (without("caption", of=of), without("asr", "no", -3.0, of))),
        ("caption", "asr", lambda of: (without("caption", "no", -1.0, of), without("asr", "no", -3.0, of))),
        ("caption", "asr", lambda of: (without("caption", of=of), without("asr", of=of))),
        ("caption", None, lambda _: ()),
    )
    records = []
    for (_, row), (first, second, left) in zip(rows["ranking"], kinds, strict=False):
        delta = row["candidates"][0]["delta"]
        ids = {"query_id": row["query_id"], "video_id": row["candidates"][0]["video_id"]}
        shown = tuple(filter(None, (first, second)))
        records.append(necessity(*left(delta), shown=shown, delta=delta, unseen=("metadata",), **ids))
    rows["necessity"] = [("part", row_of(one)) for one in records]
    files = write_tables(folder, rows, (*ALWAYS, "necessity"))
    ledger = {"stage": "judge", "step": "necessity", "in": 7, "out": 6, "rejected": {"no answer": 1}}
    document = {"steps": [{**ledger, "failed": {}, "deferred": {}}], "partial_evidence": {}}
    write_bytes(f"{folder}/ledger.json", json.dumps(document).encode())
    for name in ("run.trec", "run.bm25.trec", "run.dense.trec", "qrels.trec"):
        write_bytes(f"{folder}/{name}", b"")
    return folder, complete(folder, info, files), records


def test_labels_are_counted_by_modality_and_by_what_queries_were_written_from(output):
    folder, manifest, _ = output

    found = count_necessities(manifest.tables(folder), manifest.recipe)

    asr, caption = found.modalities["asr"], found.modalities["caption"]
    assert (found.positives, found.nowhere) == (4, 1)
    assert (asr.asked, asr.needed, asr.target) == (3, 2, 2)
    assert (caption.asked, caption.needed, caption.target) == (3, 2, 1)
    assert list(found.modalities) == ["caption", "asr", "metadata"]
    assert found.modalities["metadata"].unseen == 4
    assert sum(total for _, total, _ in found.variants) == 4
    assert count_necessities(manifest.tables(folder), RECIPE) is None


def test_card_and_report_say_what_labels_rest_on(output):
    folder, manifest, _ = output
    summary = summarize(folder, manifest)

    card, report = render_card(summary), render_report(folder, manifest, summary)

    assert "2 rest on asr" in " ".join(card.split())
    assert "and 1 on no single one" in " ".join(card.split())
    assert "necessity/part-*.parquet" in card
    assert 'id="labels-rest"' in report
    assert "1 rest on no single one" in report
    assert [table.name for table in written(manifest.recipe)][-4] == "necessity"


def test_the_story_of_a_pair_says_what_its_label_rests_on(output):
    folder, manifest, records = output
    tables = manifest.tables(folder)

    told = " ".join(
        " ".join("\n".join(what_the_label_rests_on(tables, row_of(one))).split()) for one in (records[1], records[2])
    )

    assert "rests on caption and asr" in told
    assert "no asr no, the margin falls by" in told
    assert "rests on no single modality: others tell the same" in told
    assert list(what_the_label_rests_on(tables, {"query_id": "q", "video_id": "v"})) == []


def test_what_rests_on_nothing_of_the_groups_is_a_problem(output):
    _, _, records = output
    row = row_of(records[0])
    pair = (row["query_id"], row["video_id"])

    assert broken_record("necessity", row) is None
    assert list(broken_necessity(row, {pair: row["delta"]})) == []
    assert [rule for _, rule in broken_necessity(row, {})] == ["is no positive of a ranking group"]
    assert [rule for _, rule in broken_necessity(row, {pair: 1.0})] == ["its delta is that of the positive"]
    row["without"][0]["p_yes"] = 0.1
    assert "p_yes must be sigmoid" in next(rule for _, rule in broken_necessity(row, {pair: row["delta"]}))


def test_an_export_for_modality_aware_losses_names_the_target(output, tmp_path):
    folder, _, records = output

    export_clamr(folder, str(tmp_path), None, False)

    rows = [json.loads(line) for split in ("train", "validation") for line in (tmp_path / f"{split}.jsonl").open()]
    types = {"caption": "video", "asr": "asr"}
    assert Counter(row["query_type"] for row in rows) == Counter(
        types[one.target_modality] for one in records if one.target_modality
    )
    (two,) = [row for row in rows if len(row["rests_on"]) == 2]
    assert (two["query_type"], two["rests_on"]) == ("asr", ["video", "asr"])
    assert two["drops"]["asr"] > two["drops"]["video"]
    assert two["images"][0].endswith(f"/{two['video_id']}.mp4")
    assert two["asr"]
    assert two["description"]


def test_without_what_labels_rest_on_there_is_no_target_to_export(output, tmp_path, monkeypatch):
    write_tiny(tmp_path)
    with pytest.raises(UnwritableExport, match=r"judge\.necessity"):
        export_clamr(str(tmp_path), str(tmp_path / "to"), None, False)
    monkeypatch.setattr("pipeline.outputs.export.peers.necessities", lambda tables: [])  # or none rests on one most
    with pytest.raises(UnwritableExport, match="no row has a target"):
        export_clamr(output[0], str(tmp_path / "to"), None, False)
    assert not (tmp_path / "to").exists()
