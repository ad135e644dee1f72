"""The audit of a judge: its arithmetic, its samples, and what it finds in judges with known faults."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.audit.ask import Judge, in_other_words, no_first
from pipeline.audit.audit import Audit, audit, questions_of
from pipeline.audit.coverage import coverage
from pipeline.audit.figures import area_under_curve, best_temperature, calibration, shift
from pipeline.audit.payloads import PAYLOADS, planted
from pipeline.audit.sample import judged_sample, left_out_sample, unrelated_sample, video_index
from pipeline.audit.text import audit_json, audit_text
from pipeline.config import load_recipe
from pipeline.emit import rejection_rows
from pipeline.outputs.manifest import MANIFEST, Manifest, read_manifest
from pipeline.outputs.tables import Row, Tables
from prompts.evidence import DEFAULT_BUDGETS
from prompts.template import Template, load_template
from runners.cli.main import main
from schemas.losses import Loss
from schemas.token import Token
from schemas.video import MODALITIES, Evidence, Metadata
from tests.support.scripted_teacher import ScriptedEngine
from tests.support.tiny_output import tiny_rows, write_tiny
from transforms.journal.journal import Journal
from transforms.mine.choose_pairs import ABOVE_MARGIN, NEAR_DUPLICATE
from transforms.protocols.teacher import TeacherReply, TeacherRequest


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The tiny output, of which mining left out one pair of each query: by turns as a near-duplicate or too near."""
    folder = tmp_path_factory.mktemp("audited") / "out"
    rows = tiny_rows()
    judged = {(row["query_id"], row["video_id"]) for _, row in rows["judgements"]}
    others = [row["video_id"] for _, row in rows["videos"] if row["split"] == "train"]
    rows["rejections"] = [(part, row) for part, row in rows["rejections"] if row["step"] != "guard"]
    for number, (_, row) in enumerate(rows["ranking"]):
        query_id = row["query_id"]
        video_id = next(one for one in others[number % 9 :] + others if (query_id, one) not in judged)
        reason = (NEAR_DUPLICATE, ABOVE_MARGIN)[number % 2]
        left_out = Loss("rejected", "mine", "guard", reason, "", video_id, query_id)
        rows["rejections"] += [("part", row) for row in rejection_rows(left_out)]
    write_tiny(folder, rows)
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["recipe"] = load_recipe("demo").as_dict() | {"name": "tiny"}
    path.write_text(json.dumps(manifest))
    return str(folder)


@pytest.fixture(scope="module")
def manifest(output: str) -> Manifest:
    return read_manifest(output)


@dataclass(frozen=True)
class Says:
    """A teacher that leans to yes by ``by(prompt)`` nats, and answers with exact log-probabilities."""

    by: object

    def __call__(self, request: TeacherRequest) -> TeacherReply:
        delta = self.by(request)
        yes, no = -math.log1p(math.exp(-delta)), -math.log1p(math.exp(delta))
        word, other = (b"yes", b"no") if delta > 0 else (b"no", b"yes")
        decision = Token(word, max(yes, no), ((word, max(yes, no)), (other, min(yes, no))))
        text = f"<think>so it is</think><answer>{word.decode()}</answer>"
        return TeacherReply(text, (Token(b"<think>so it is</think><answer>", 0.0), decision, Token(b"</answer>", 0.0)))


@pytest.fixture
def judge(tmp_path: Path) -> Iterator[object]:
    journal = Journal(str(tmp_path / "cache"))

    def of(by: object) -> Judge:
        return Judge(ScriptedEngine(Says(by)), journal, load_template("judge"), MODALITIES, DEFAULT_BUDGETS, seed=7)

    yield of
    journal.close()


def audited(output: str, manifest: Manifest, judge: Judge, n: int = 6) -> Audit:
    tables = manifest.tables(output)
    return audit(manifest, tables, judge, questions_of(output, tables, judge, n))


# Arithmetic


def test_area_under_the_curve_is_one_where_every_relevant_pair_is_above() -> None:
    assert area_under_curve(np.array([1.0, 2.0]), np.array([0.0, -1.0])) == 1.0
    assert area_under_curve(np.array([0.0]), np.array([0.0])) == 0.5


def test_the_best_temperature_is_where_stated_and_true_odds_agree() -> None:
    # Of pairs with a margin of +-4 one in five lies on the wrong side: the odds are 4, so T = 4 / ln 4.
    yes, no = np.array([4.0] * 4 + [-4.0]), np.array([-4.0] * 4 + [4.0])
    assert best_temperature(yes, no) == pytest.approx(4 / math.log(4), rel=0.02)


def test_calibration_weighs_both_kinds_alike() -> None:
    found = calibration([0.0], [0.0, 0.0, 0.0, 0.0], alpha1=-6.0)
    assert found is not None
    assert (found.auc, found.brier, found.relevant, found.others) == (0.5, 0.25, 1, 4)
    (only,) = found.bins
    assert (only.pairs, only.mean_p_yes, only.relevant) == (5, 0.5, 0.5)


def test_calibration_tells_how_many_lie_at_or_below_alpha1() -> None:
    found = calibration([3.0, -6.0], [-6.0, -7.0, 1.0, -5.9], alpha1=-6.0)
    assert found is not None
    assert (found.relevant_below, found.others_below) == (0.5, 0.5)


@pytest.mark.parametrize(("relevant", "others"), [([], [1.0]), ([1.0], [])])
def test_there_is_no_calibration_without_both_kinds(relevant: list[float], others: list[float]) -> None:
    assert calibration(relevant, others, -6.0) is None


def test_a_shift_counts_flips_of_what_could_be_read_and_margins_where_there_are_two() -> None:
    found = shift([("no", "yes", 3.0), ("yes", "no", None), ("no", "no", -1.0), None])
    assert (found.pairs, found.compared, found.flips, found.to_yes) == (4, 3, 2, 1)
    assert (found.mean, found.size) == (1.0, 2.0)


def test_a_shift_of_nothing_has_no_mean() -> None:
    assert shift([None]).mean is None


# Ways of asking


def test_the_answers_of_the_own_prompt_can_be_put_in_the_other_order() -> None:
    template = load_template("judge")
    turned = no_first(template)
    assert turned is not None
    assert turned.source.index("<answer>no") < turned.source.index("<answer>yes")
    assert turned.version != template.version
    assert no_first(turned) == template


def test_a_prompt_that_does_not_show_both_answers_has_no_other_order() -> None:
    assert no_first(Template("judge", "say <answer>yes</answer>")) is None


def test_the_reworded_prompt_has_the_slots_and_the_form_of_the_prompt_itself() -> None:
    reworded, template = load_template("judge_reworded"), load_template("judge")
    assert reworded.slots == template.slots
    assert no_first(reworded) is not None
    assert not set(reworded.source.split(". ")) & set(template.source.split(". "))


def test_a_prompt_without_an_example_is_reworded_without_one_and_any_other_with_one() -> None:
    bare = load_recipe("demo", ["judge.prompt=without_example"]).templates()["judge"]
    assert in_other_words(bare) == load_template("judge_reworded_without_example")
    assert {in_other_words(one) for one in (load_template("judge"), Template("judge", "{{query}}"))} == {
        load_template("judge_reworded")
    }


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("family", PAYLOADS)
def test_a_payload_stands_at_the_head_of_its_modality_and_in_no_other(modality: str, family: str) -> None:
    text = PAYLOADS[family]("who won the race")
    evidence = planted(Evidence("a dog", metadata=Metadata("dogs")), modality, text)
    assert text in evidence.text(modality)
    assert all(text not in evidence.text(other) for other in MODALITIES if other != modality)


# Samples


def test_coverage_counts_every_pair_and_what_it_lacks(output: str, manifest: Manifest) -> None:
    tables = manifest.tables(output)
    rows = list(tables.rows("judgements"))
    found = coverage(tables)
    assert found.pairs == len(rows) == found.labels.total() == found.sources.total()
    assert found.margins.total() == sum(row["delta"] is not None for row in rows)
    assert found.sources["label_only"] == sum(row["delta"] is None for row in rows) > 0
    assert found.censored.total() == sum(row["censored"] is not None for row in rows) > 0
    assert found.widths.total() == found.margins.total() - found.censored.total()
    assert len(found.positives) == sum(row["is_positive"] and row["delta"] is not None for row in rows)


def test_a_sample_is_the_same_pairs_each_time_and_a_larger_one_holds_a_smaller(output: str, manifest: Manifest) -> None:
    tables = manifest.tables(output)
    few, many = (judged_sample(tables, video_index(tables), n) for n in (4, 9))
    assert few == many[:4]
    assert len({(j.pair.query.query_id, j.pair.video.video_id) for j in many}) == 9


def test_an_unrelated_video_is_of_another_event_and_in_no_qrel(output: str, manifest: Manifest) -> None:
    tables = manifest.tables(output)
    events = {row["video_id"]: row["metadata"]["event"] for row in tables.rows("videos")}
    own = {row["query_id"]: row["video_id"] for row in tables.rows("queries")}
    videos = video_index(tables)
    for pair in unrelated_sample(tables, videos, {}, ("caption",), 50):
        assert events[pair.video.video_id] != events[own[pair.query.query_id]]
    listed = {query_id: dict.fromkeys(events, 1) for query_id in own}
    assert unrelated_sample(tables, videos, listed, ("caption",), 50) == []


def test_an_unrelated_video_is_no_copy_of_one_that_answers(
    output: str, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Tables.rows

    def all_copies(tables: Tables, table: str, *columns: Any) -> Iterator[Row]:
        return ({**row, "group": "one"} if "group" in row else row for row in rows(tables, table, *columns))

    monkeypatch.setattr(Tables, "rows", all_copies)
    tables = manifest.tables(output)
    assert unrelated_sample(tables, video_index(tables), {}, ("caption",), 50) == []


def test_a_sample_of_what_mining_left_out_is_the_same_pairs_each_time_and_none_that_was_judged(
    output: str, manifest: Manifest
) -> None:
    tables = manifest.tables(output)
    few, many = (left_out_sample(tables, video_index(tables), ("caption",), n) for n in (4, 20))
    assert few == many[:4]
    assert few == left_out_sample(manifest.tables(output), video_index(tables), ("caption",), 4)
    ids = [(pair.query.query_id, pair.video.video_id) for pair in many]
    reasons = {(row["query_id"], row["video_id"]): row["reason"] for row in tables.rows("rejections")}
    assert len(set(ids)) == 20
    assert {reasons[pair] for pair in ids} == {NEAR_DUPLICATE, ABOVE_MARGIN}
    assert set(ids).isdisjoint((row["query_id"], row["video_id"]) for row in tables.rows("judgements"))


def test_a_pair_that_was_left_out_is_not_asked_about_where_the_judge_can_be_shown_nothing(
    output: str, manifest: Manifest
) -> None:
    tables = manifest.tables(output)
    videos = video_index(tables)
    everything = left_out_sample(tables, videos, MODALITIES, 1000)
    assert len(everything) == sum(row["step"] == "guard" for row in tables.rows("rejections"))
    heard = [pair for pair in everything if pair.video.evidence.asr]
    assert left_out_sample(tables, videos, ("asr",), 1000) == heard


# Whole audits


def test_the_judge_says_how_many_of_the_pairs_that_mining_left_out_are_relevant(
    output: str, manifest: Manifest, judge: object
) -> None:
    by = lambda request: 5.0 if "PIER 7" in request.prompt.user else -3.0  # noqa: E731
    found = audited(output, manifest, judge(by), n=12)
    tables = manifest.tables(output)
    pairs = left_out_sample(tables, video_index(tables), MODALITIES, 12)
    relevant = sum("PIER 7" in pair.video.evidence.text("ocr") for pair in pairs)
    assert 0 < relevant < len(pairs) == 12
    assert (found.left_out, found.left_out_yes) == (12, relevant)
    assert found.asked == len(questions_of(output, tables, judge(by), 12)) - found.cached
    values = msgspec.json.decode(audit_json(found))
    assert (values["left_out"], values["left_out_yes"]) == (12, relevant)
    lines = audit_text(output, manifest, found).splitlines()
    at = lines.index("Pairs that mining left out before they were judged")
    assert f"{relevant} of 12 called relevant" in lines[at + 1]


def test_a_judge_that_only_looks_at_the_query_is_found_to_be_steady_and_useless(
    output: str, manifest: Manifest, judge: object
) -> None:
    found = audited(output, manifest, judge(lambda request: -3.0))
    assert found.unrelated_yes == 0
    assert found.unrelated == 6
    assert all(shifted.flips == 0 and shifted.mean == 0.0 for shifted in found.planted.values())
    assert set(found.planted) == set(PAYLOADS)
    assert found.biases["no before yes"].compared == 6


def test_a_judge_that_believes_what_evidence_claims_is_found_out(
    output: str, manifest: Manifest, judge: object
) -> None:
    by = lambda request: 4.0 if "perfectly relevant" in request.prompt.user else -3.0  # noqa: E731
    found = audited(output, manifest, judge(by))
    claims = found.planted["claims relevance"]
    assert (claims.flips, claims.to_yes, claims.mean) == (6, 6, pytest.approx(7.0, abs=0.01))
    assert found.planted["base64"].flips == 0
    line = next(line for line in audit_text(output, manifest, found).splitlines() if "claims relevance" in line)
    assert line.endswith("over the limit")


def test_a_judge_that_prefers_the_answer_named_last_is_found_out(
    output: str, manifest: Manifest, judge: object
) -> None:
    def by(request: TeacherRequest) -> float:
        system = request.prompt.system
        return 2.0 if system.rfind("<answer>yes") > system.rfind("<answer>no") else -2.0

    biases = audited(output, manifest, judge(by)).biases
    assert biases["no before yes"].mean - biases["another seed"].mean == pytest.approx(4.0, abs=0.01)


def test_unrelated_pairs_that_the_judge_takes_for_relevant_are_not_asked_about_payloads_twice(
    output: str, manifest: Manifest, judge: object
) -> None:
    found = audited(output, manifest, judge(lambda request: 5.0))
    assert found.unrelated_yes == 6
    assert found.planted == {}


def test_unreadable_replies_are_counted_and_no_answer(output: str, manifest: Manifest, judge: object) -> None:
    mute = replace(judge(None), engine=ScriptedEngine(lambda request: TeacherReply("I cannot say")))
    found = audited(output, manifest, mute)
    assert found.problems == {"no answer": found.asked + found.cached}
    assert (found.calibration, found.left_out) == (None, 0)
    said = audit_text(output, manifest, found)
    assert "nothing to compare" in said
    assert "left out" not in said


def test_the_same_audit_again_asks_nothing_and_says_the_same(output: str, manifest: Manifest, judge: object) -> None:
    first = audited(output, manifest, judge(lambda request: -1.0))
    again = audited(output, manifest, judge(lambda request: pytest.fail("asked again")))
    assert (first.cached, again.asked) == (0, 0)
    assert replace(again, asked=first.asked, cached=0) == first


def test_json_holds_what_the_text_says(output: str, manifest: Manifest, judge: object) -> None:
    found = audited(output, manifest, judge(lambda request: -3.0))
    values = msgspec.json.decode(audit_json(found))
    assert values["coverage"]["pairs"] == found.coverage.pairs
    assert sum(part["pairs"] for part in values["coverage"]["margins"]) == found.coverage.margins.total()
    assert set(values["planted"]) == set(PAYLOADS)


# The command


def test_the_command_reads_an_output_without_asking(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge-audit", output]) == 0
    said = capsys.readouterr().out
    assert "Confidence" in said
    assert "--sample 25" in said


def test_the_command_asks_the_judge_of_the_run(output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["judge-audit", output, "--sample", "3", "--cache", str(tmp_path / "cache"), "--json"]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert main(arguments) == 0
    again = json.loads(capsys.readouterr().out)
    assert (first["asked"] > 0, again["asked"], first["left_out"]) == (True, 0, 3)
    # The rules judge by words: stuffing with those of the query is what sways them, and nothing else does.
    assert first["planted"]["query words"]["to_yes"] == first["planted"]["query words"]["compared"] > 0
    assert first["planted"]["forged turn"]["flips"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sample", "-1"], "--sample must not be negative"),
        (["--sample", "1", "--set", "judge.teacher.engine=oracle"], "teacher engine 'oracle' is not known"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    output: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["judge-audit", output, *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_journal_that_cannot_be_read_is_one_line(
    output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "journal" / "judge" / "a.jsonl"
    (folder / "in").mkdir(parents=True)

    assert main(["judge-audit", output, "--sample", "1", "--cache", str(tmp_path)]) == 1
    assert f"hardquery: cannot read the journal {folder}: Is a directory\n" in capsys.readouterr().err


def test_a_folder_that_is_no_output_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge-audit", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err
