"""What a run says that it used is what the server counted: tokens, requests and retries, faults included."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.report.calls import calls_of
from runners.cli.main import main
from schemas.usage import USAGE
from tests.support.faulty_server import FaultyServer, task_of
from tests.support.scripted_server import Asked, Reply, ScriptedServer
from transforms.engines.openai.probing.probe import QUESTION
from transforms.journal.record import Record
from transforms.journal.segments import Line, scan

CLIPS = ("launch_ostara_1", "launch_ostara_2", "tram_linden_1", "tram_linden_3")
TASKS = ("caption", "write", "judge")
THOUGHTS = 3  # tokens of every query writer's reply


def empty_books() -> dict[str, Counter[str]]:
    """By task, and of the calls by which a run finds out what the server can do."""
    return {task: Counter() for task in (*TASKS, "probe")}


class CountingServer:
    """A faulty server that counts words as tokens, and keeps its own books by task.

    It tells no tokens of captions, reasoning tokens of written queries, and how much of the judge's prompts it had read
    before, as the longest common beginning with any earlier prompt.
    """

    def __init__(self) -> None:
        self.faulty = FaultyServer(seed=0)
        self.books = empty_books()
        self._read: list[list[str]] = []

    def __call__(self, asked: Asked) -> Reply:
        if any(message["content"] == QUESTION for message in asked.body.get("messages", ())):
            self.books["probe"]["requests"] += 1
            return Reply(status=503)
        reply = self.faulty(asked)
        if asked.path.endswith("/models"):
            return reply
        task = task_of(asked)
        self.books[task]["requests"] += 1
        if not isinstance(reply.body, dict) or "usage" not in reply.body:
            return reply
        usage = None if task == "caption" else self._bill(task, asked, reply.body)
        return replace(reply, body={**reply.body, "usage": usage})

    def _bill(self, task: str, asked: Asked, body: Mapping[str, Any]) -> dict[str, Any]:
        prompt = " ".join(message["content"] for message in asked.body["messages"]).split()
        message = body["choices"][0]["message"]
        tokens = {"input": len(prompt), "output": len((message["content"] or message["refusal"]).split()) + THOUGHTS}
        more: dict[str, Any] = {"prompt_tokens_details": None}
        if task == "write":
            tokens["reasoning"] = THOUGHTS
            more["completion_tokens_details"] = {"reasoning_tokens": THOUGHTS}
        if task == "judge":
            tokens["cached"] = max((_shared(prompt, read) for read in self._read), default=0)
            self._read.append(prompt)
            more["prompt_tokens_details"] = {"cached_tokens": tokens["cached"]}
        self.books[task].update({f"{kind}_tokens": n for kind, n in tokens.items()})
        return {"prompt_tokens": tokens["input"], "completion_tokens": tokens["output"], **more}


def _shared(one: list[str], other: list[str]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@dataclass(frozen=True)
class Ended:
    """A run's own account by step, what the server wrote down meanwhile, and the distinct requests it was asked."""

    output: Path
    work: Mapping[str, Mapping[str, int]]
    books: Mapping[str, Counter[str]]
    distinct: Mapping[str, int]


def run(folder: Path, server: ScriptedServer, counting: CountingServer) -> Ended:
    engine = {"engine": "openai", "model": "m", "base_url": server.base_url, "attempts": 3, "timeout_s": 2}
    engine["temperature"] = 1.0  # log-probabilities of a server that is too busy to be probed are taken at no other
    settings = {
        "extract.asr": None,
        "extract.ocr": None,
        "extract.caption": engine,
        "extract.frames.max_frames": 2,
        "emit.frames": None,
        "emit.validation_fraction": 0.0,
        "synthesize.teacher": engine,
        "mine.first_stage": {"engine": "bm25"},
        "judge.teacher": engine,
        "judge.modalities": ["metadata"],
    }
    output, before, calls = folder / "out", len(counting.faulty.calls), counting.faulty.calls
    counting.books = empty_books()
    command = ["run", "demo", "--workers", "1", "--input", str(folder / "list.jsonl"), "--output", str(output)]
    assert main([*command, *(f"--set={key}={json.dumps(value)}" for key, value in settings.items())]) == 0
    distinct = Counter(task for task, _ in {(call.task, call.request) for call in calls[before:]})
    return Ended(output, read_manifest(str(output)).work, counting.books, distinct)


@pytest.fixture(scope="module")
def runs(samples, short_clips, tmp_path_factory) -> tuple[Ended, Ended, Path]:
    """A run against the faults, the same again, and their folder."""
    folder = tmp_path_factory.mktemp("usage")
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text().splitlines()]
    chosen = [line for line in lines if line["video_id"] in CLIPS]
    chosen = [{**line, "uri": str(short_clips / Path(line["uri"]).name)} for line in chosen]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))
    counting = CountingServer()
    with pytest.MonkeyPatch.context() as patch, ScriptedServer(counting) as server:
        for module in ("chat", "probing.probed_server"):
            patch.setattr(f"transforms.engines.openai.{module}.pause_s", lambda *_: 0.0)
        return run(folder, server, counting), run(folder, server, counting), folder


def told(work: Mapping[str, int]) -> dict[str, int]:
    return {name: work[name] for name in USAGE if name in work and name != "retries"}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("nth", [0, 1])
def test_tokens_and_requests_are_the_servers_own(runs, nth, task):
    ended = runs[nth]
    assert told(ended.work[task]) == +ended.books[task]
    assert ended.books[task]["requests"] > 0


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("nth", [0, 1])
def test_retries_are_the_requests_that_repeat_another(runs, nth, task):
    ended = runs[nth]
    made = ended.work[task].get("run", 0) + ended.work[task].get("failed", 0)
    assert made == ended.distinct[task]
    assert ended.work[task]["retries"] == ended.books[task]["requests"] - made > 0


@pytest.mark.parametrize("nth", [0, 1])
def test_only_the_few_calls_that_try_the_server_out_are_no_steps_own(runs, nth):
    captioner, writer, judge, tries = 1, 3, 5, 3  # it is busy
    assert runs[nth].books["probe"]["requests"] == (captioner + writer + judge) * tries


def test_the_judges_prompts_begin_as_earlier_ones_did(runs):
    work = runs[0].work["judge"]
    assert work["cacheable_tokens"] == work["input_tokens"] == runs[0].books["judge"]["input_tokens"]
    assert 0 < work["cached_tokens"] < work["input_tokens"]


def test_replies_without_a_count_are_counted_as_such_and_not_as_none_used(runs):
    work = runs[0].work["caption"]
    assert work["silent"] == work["run"]
    assert not {"input_tokens", "output_tokens"} & set(work)


@pytest.mark.parametrize("task", TASKS)
def test_the_journal_holds_every_request_of_both_runs(runs, task):
    first, again, folder = runs
    records = []
    for path in sorted(folder.glob(f".hardquery/journal/{task}/*.jsonl")):
        with path.open("rb") as file:
            lines = [line for line in scan(file) if isinstance(line, Line)]
        records += [msgspec.json.decode(line.data, type=Record) for line in lines]
    for name in ("requests", "input_tokens", "cached_tokens", "output_tokens"):
        used = sum(getattr(record.usage, name) or 0 for record in records)
        assert used == first.books[task][name] + again.books[task][name]


def test_the_card_counts_both_runs_and_the_report_the_last(runs):
    first, again, _ = runs
    all_runs = {calls.step: calls for calls in calls_of(again.work, all_runs=True)}
    for task in TASKS:
        assert all_runs[task].requests == first.books[task]["requests"] + again.books[task]["requests"]
        assert all_runs[task].output_tokens == first.books[task]["output_tokens"] + again.books[task]["output_tokens"]
    card = (again.output / "README.md").read_text()
    assert re.search(rf"^\| judge \| \d+ \| {all_runs['judge'].requests} \|", card, re.MULTILINE)
    assert f'<td class="n">{again.books["judge"]["requests"]}</td>' in (again.output / "report.html").read_text()
