"""A part of the sample corpus from end to end with published weights alone, and further judges: ``make test-real``.

Whisper hears, SmolLM2 writes queries and look-alikes, judges and verifies. No second language model is to be had whose
terms allow it here, so that the panel is the same weights with words drawn by chance, whose kappa says how much of its
verdicts is chance, and the judge made of rules, which is no relation of theirs.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.report.panel import Panel, compare_judges
from runners.cli.main import main
from tests.support.llama_server import VERDICT_GRAMMAR, serving
from tests.support.real_weights import faster_whisper, smollm2
from transforms.ledger import read_ledger

pytestmark = pytest.mark.real

CLIPS = ("flood_riverton_1", "flood_riverton_2", "flood_valdoro_2", "launch_kestrel_1", "launch_kestrel_2")
PEOPLE_S = ("hq1", "hq3", "hq8")
# One at a time: the prompts of a video share their beginning, which a slot of the server then has read.
MODEL = {"engine": "openai", "model": "smollm2", "attempts": 1, "timeout_s": 3600, "in_flight": 1}
# A judge that is never sure is told apart by its own margins; thresholds of nats would leave it nothing.
RULES = (
    "extract.frames.max_frames=4",
    "emit.frames.frames=2",
    "emit.validation_fraction=0",
    "synthesize.variants=[all]",
    "synthesize.queries_per_variant=1",
    "mine.ambiguity=null",
    "mine.candidates=4",
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
    with serving(smollm2()) as server:
        code = main(command(samples, folder, output, server.base_url))
    lines = read_ledger((output / "ledger.json").read_bytes())
    return Ended(output, code, compare_judges(read_manifest(str(output)).tables(str(output)), lines))


def command(samples: Path, folder: Path, output: Path, base_url: str) -> list[str]:
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text("utf-8").splitlines()]
    chosen = [{**line, "uri": str(samples / line["uri"])} for line in lines if line["video_id"] in CLIPS]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))
    asked = [line for line in (samples / "queries.tsv").read_text("utf-8").splitlines() if line.split()[0] in PEOPLE_S]
    (folder / "queries.tsv").write_text("\n".join(asked) + "\n", "utf-8")
    qrels = [line.split() for line in (samples / "qrels.trec").read_text("utf-8").splitlines()]
    known = [" ".join(line) for line in qrels if line[0] in PEOPLE_S and line[2] in CLIPS]
    (folder / "qrels.trec").write_text("\n".join(known) + "\n")

    server = {**MODEL, "base_url": base_url}
    writer = {**server, "temperature": 0.7, "max_tokens": 400}
    judge = {**server, "max_tokens": 120, "top_logprobs": 100, "extra_body": {"grammar": VERDICT_GRAMMAR}}
    options = {
        "extract.asr": {"engine": "faster-whisper", "model": str(faster_whisper("tiny.en"))},
        "synthesize.teacher": writer,
        "synthesize.negative_queries": {"queries": 4, "kept": 2},
        "judge.teacher": judge,
        "judge.panel": {"by_chance": {**judge, "temperature": 1.0}, "rules": {"engine": "rules"}},
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


def test_each_query_and_look_alike_that_was_asked_for_is_there_or_has_its_reason(ended: Ended, record_property) -> None:
    why = Counter((row["step"], row["reason"]) for row in ended.rows("rejections"))
    for (step, reason), count in sorted(why.items()):
        record_property(f"rejected in {step}: {reason}", count)
    by_video = ended.rows("ranking_by_video") if (ended.output / "ranking_by_video").is_dir() else []
    record_property("groups of a query, and of a video", f"{len(ended.rows('ranking'))} {len(by_video)}")
    written = [row for row in ended.rows("queries") if row["source"] == "teacher"]
    record_property("queries written, of 5 asked for", len(written))

    unread = sum(count for (step, _), count in why.items() if step == "write")
    assert len(written) + unread == len(CLIPS)
