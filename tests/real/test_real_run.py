"""A part of the sample corpus from end to end with published weights alone, and further judges: ``make test-real``.

Whisper hears. Qwen2.5-Coder-1.5B writes queries and look-alikes, and judges; SmolLM2, of another family, verifies the
look-alikes and is of the panel, as is the judge made of rules.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from benchmarks.real_teacher import HELD
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.report.panel import Panel, compare_judges
from runners.cli.main import main
from tests.support.llama_server import serving
from tests.support.real_weights import faster_whisper, qwen, smollm2
from transforms.ledger import read_ledger

pytestmark = pytest.mark.real

CLIPS = ("flood_riverton_1", "flood_riverton_2", "flood_valdoro_2", "launch_kestrel_1", "launch_kestrel_2")
PEOPLE_S = ("hq1", "hq3", "hq8")
QWEN, SMOLLM2 = "qwen2.5-coder-1.5b", "smollm2-135m"
# One at a time: the prompts of a video share their beginning, which a slot of the server then has read.
MODEL = {"engine": "openai", "attempts": 1, "timeout_s": 36000, "in_flight": 1}
# A judge that is never sure is told apart by its own margins; thresholds of nats would leave it nothing.
RULES = (
    "extract.frames.max_frames=4",
    "emit.frames.frames=2",
    "emit.validation_fraction=0",
    "synthesize.variants=[all]",
    "synthesize.queries_per_variant=1",
    "mine.ambiguity=null",
    "mine.candidates=2",
    "curate.alpha1={quantile: 0.5}",
    "judge.panel_rules={margin_below: null, agree: 2}",
)


@dataclass(frozen=True)
class Ended:
    """The output of the run, how the run ended, and what the panel made of it."""

    output: Path
    code: int
    panel: Panel | None

    def rows(self, table: str) -> list[dict[str, Any]]:
        return ds.dataset(self.output / table, format="parquet").to_table().to_pylist()


@pytest.fixture(scope="module")
def ended(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder = tmp_path_factory.mktemp("real")
    output = folder / "set"
    with serving(qwen()) as first, serving(smollm2()) as second:
        code = main(command(samples, folder, output, first.base_url, second.base_url))
    lines = read_ledger((output / "ledger.json").read_bytes())
    return Ended(output, code, compare_judges(read_manifest(str(output)).tables(str(output)), lines))


def command(samples: Path, folder: Path, output: Path, qwen_at: str, smollm2_at: str) -> list[str]:
    """The run, with lists that it is given in ``folder``."""
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text("utf-8").splitlines()]
    chosen = [{**line, "uri": str(samples / line["uri"])} for line in lines if line["video_id"] in CLIPS]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))
    asked = [line for line in (samples / "queries.tsv").read_text("utf-8").splitlines() if line.split()[0] in PEOPLE_S]
    (folder / "queries.tsv").write_text("\n".join(asked) + "\n", "utf-8")
    qrels = [line.split() for line in (samples / "qrels.trec").read_text("utf-8").splitlines()]
    known = [" ".join(line) for line in qrels if line[0] in PEOPLE_S and line[2] in CLIPS]
    (folder / "qrels.trec").write_text("\n".join(known) + "\n")

    teacher = {**MODEL, "model": QWEN, "base_url": qwen_at}
    writer = {**teacher, "temperature": 0.7, "max_tokens": 400}
    judge = {**teacher, "max_tokens": 120, "top_logprobs": 100, "extra_body": HELD}
    other = {**judge, "model": SMOLLM2, "base_url": smollm2_at}
    options = {
        "extract.asr": {"engine": "faster-whisper", "model": str(faster_whisper("tiny.en"))},
        "synthesize.teacher": writer,
        "synthesize.negative_queries": {"queries": 3, "kept": 2, "verifier": other},
        "judge.teacher": judge,
        "judge.panel": {"smollm2": other, "rules": {"engine": "rules"}},
    }
    settings = [*RULES, *(f"{key}={json.dumps(value)}" for key, value in options.items())]
    given = ["--input", str(folder / "list.jsonl"), "--output", str(output), "--workers", "1"]
    given += ["--queries", str(folder / "queries.tsv"), "--qrels", str(folder / "qrels.trec")]
    return ["run", "demo", *given, *(word for setting in settings for word in ("--set", setting))]


def test_the_run_ends_well_and_its_output_is_sound(ended: Ended) -> None:
    assert ended.code == 0
    assert main(["verify", str(ended.output)]) == 0
    assert {row["video_id"] for row in ended.rows("videos")} == set(CLIPS)


def test_every_pair_has_the_word_of_each_judge_and_kappa_says_how_they_agree(ended: Ended, record_property) -> None:
    assert ended.panel is not None
    for one in ended.panel.twos:
        record_property(f"kappa of {' and '.join(one.names)}, {one.pairs} pairs", f"{one.kappa}")
        record_property(f"yes of {' and '.join(one.names)}", " ".join(f"{rate:.2f}" for rate in one.base_rates))

    judged = ended.rows("judgements")
    for one in ended.panel.judges:
        record_property(f"verdicts of {one.name} that can be read", f"{one.said} of {one.asked}")
    assert [one.asked for one in ended.panel.judges] == [len(judged)] * 2
    assert len(ended.panel.twos) == 3
    assert all(0 < one.pairs <= len(judged) for one in ended.panel.twos)
    assert {row["confidence_source"] for row in judged} == {"logprobs"}
    assert {row["teacher"]["model"] for row in judged} == {QWEN}
    said = [opinion for row in judged for opinion in row["panel"] if opinion["judge"] == "smollm2"]
    assert {(one["teacher"]["model"], one["confidence_source"]) for one in said} == {(SMOLLM2, "logprobs")}


def test_report_and_card_show_how_the_two_families_agree(ended: Ended) -> None:
    assert ended.panel is not None
    page, card = ((ended.output / name).read_text("utf-8") for name in ("report.html", "README.md"))
    for one in ended.panel.twos:
        kappa = "" if one.kappa is None else f"{one.kappa:.2f}"
        assert f"<tr><th>{' and '.join(one.names)}</th>" in page
        assert f"| {' and '.join(one.names)} | {one.pairs} | {100 * one.agreed:.0f}% | {kappa} |" in card
        assert kappa in page


def test_the_larger_model_knows_the_videos_that_answer_what_people_asked(ended: Ended, record_property) -> None:
    own = [row for row in ended.rows("judgements") if row["is_positive"] and row["query_id"] in PEOPLE_S]
    record_property("margins of the queries by people", " ".join(f"{row['delta']:+.2f}" for row in own))

    assert len(own) == len(PEOPLE_S)
    assert sum(row["label"] == "yes" for row in own) >= 2


def test_each_query_and_look_alike_that_was_asked_for_is_there_or_has_its_reason(ended: Ended, record_property) -> None:
    why = Counter((row["step"], row["reason"]) for row in ended.rows("rejections"))
    for (step, reason), count in sorted(why.items()):
        record_property(f"rejected in {step}: {reason}", count)
    by_video = ended.rows("ranking_by_video") if (ended.output / "ranking_by_video").is_dir() else []
    record_property("groups of a query, and of a video", f"{len(ended.rows('ranking'))} {len(by_video)}")
    written = [row for row in ended.rows("queries") if row["source"] == "teacher"]
    record_property("queries written, of 5 asked for", len(written))
    record_property("of them kept", sum(row["verdict"] == "kept" for row in written))

    unread = sum(count for (step, _), count in why.items() if step == "write")
    assert len(written) + unread == len(CLIPS)
    assert {row["writer"]["model"] for row in written} == {QWEN}
    for row in by_video:
        assert (row["writer"]["model"], row["verifier"]["model"]) == (QWEN, SMOLLM2)
        assert {one["teacher_label"] for one in row["candidates"] if one["label"] == 0} <= {"no"}
