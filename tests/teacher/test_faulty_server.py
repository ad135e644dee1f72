"""A whole run against a server that fails three calls in ten: nothing is lost, doubled or guessed, and all is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pyarrow.dataset as ds
import pytest

from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.verify.verify import verify
from runners.cli.main import main
from schemas.query import PAPERS_VARIANTS
from tests.support.faulty_server import RETRY_AFTER_S, SPOILT, TRANSIENT, Call, FaultyServer
from tests.support.scripted_server import ScriptedServer
from transforms.engines.server.retry import pause_s
from transforms.journal.record import Record
from transforms.journal.segments import Line, scan
from transforms.ledger import read_ledger, read_partial_evidence

CLIPS = ("launch_kestrel_1", "launch_kestrel_2", "launch_ostara_1", "launch_ostara_2", "tram_linden_1", "tram_linden_3")
ATTEMPTS = 3


@dataclass(frozen=True)
class Ended:
    """A run, what the server was asked during it, and what it left."""

    code: int
    calls: list[Call]
    output: Path
    records: list[Record]

    def rows(self, table: str, **of: str) -> list[dict]:
        found = ds.dataset(str(self.output / table), format="parquet").to_table().to_pylist()
        return [row for row in found if all(row[column] == value for column, value in of.items())]

    @property
    def requests(self) -> set[str]:
        return {call.request for call in self.calls}

    @property
    def hashes(self) -> dict[str, str]:
        return {file.path: file.sha256 for file in read_manifest(str(self.output)).files if file.rows is not None}


def records(cache: Path) -> Iterator[Record]:
    for path in sorted(cache.glob("journal/*/*.jsonl")):
        with path.open("rb") as file:
            for line in scan(file):
                assert isinstance(line, Line)
                yield msgspec.json.decode(line.data, type=Record)


def run(folder: Path, name: str, server: ScriptedServer, faulty: FaultyServer, retry: str) -> Ended:
    engine = {"engine": "openai", "model": "m", "base_url": server.base_url, "attempts": ATTEMPTS, "timeout_s": 2}
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
    output, asked = folder / name, len(faulty.calls)
    command = ["run", "demo", "--workers", "1", "--input", str(folder / "list.jsonl"), "--output", str(output)]
    command += ["--retry-failures", retry, *(f"--set={key}={json.dumps(value)}" for key, value in settings.items())]
    code = main(command)
    return Ended(code, faulty.calls[asked:], output, list(records(folder / ".hardquery")))


@pytest.fixture(scope="module")
def waits() -> list[tuple[int, float]]:
    """The attempt and the wait that the server asked for, of every pause."""
    return []


@pytest.fixture(scope="module")
def runs(samples, tmp_path_factory, waits) -> dict[str, Ended]:
    """Four runs of one job: against the faults, twice more, and when they have passed."""
    folder = tmp_path_factory.mktemp("faulty")
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text().splitlines()]
    chosen = [{**line, "uri": str(samples / line["uri"])} for line in lines if line["video_id"] in CLIPS]
    (folder / "list.jsonl").write_text("".join(json.dumps(line) + "\n" for line in chosen))

    def no_pause(attempt: int, asked_s: float) -> float:
        waits.append((attempt, asked_s))
        return 0.0

    faulty = FaultyServer(seed=0)
    with pytest.MonkeyPatch.context() as patch, ScriptedServer(faulty) as server:
        patch.setattr("transforms.engines.openai.chat.pause_s", no_pause)
        patch.setattr("transforms.engines.openai.probing.probed_server.pause_s", lambda *_: 0.0)
        found = {
            "first": run(folder, "first", server, faulty, "transient"),
            "again": run(folder, "again", server, faulty, "transient"),
            "none": run(folder, "none", server, faulty, "none"),
        }
        faulty.healed = True
        found["healed"] = run(folder, "healed", server, faulty, "all")
    return found


@pytest.fixture
def first(runs) -> Ended:
    return runs["first"]


def test_three_calls_in_ten_fail_in_every_way(first, waits):
    faults = Counter(call.fault for call in first.calls)

    assert 0.2 <= 1 - faults[""] / len(first.calls) <= 0.4  # which ones, and so how many, follows who comes first
    assert set(faults) == {"", "400", *TRANSIENT, *(fault for faults in SPOILT.values() for fault in faults)}
    assert {asked_s for _, asked_s in waits} == {0.0, RETRY_AFTER_S}
    assert pause_s(0, RETRY_AFTER_S) >= RETRY_AFTER_S


@pytest.mark.parametrize("name", ["first", "again", "none", "healed"])
def test_every_run_ends_well_and_its_books_balance(runs, name):
    ended = runs[name]

    assert ended.code == 0
    assert verify(str(ended.output)) == []
    assert [line for line in read_ledger((ended.output / "ledger.json").read_bytes()) if line.missing] == []


@pytest.mark.parametrize("name", ["first", "again", "none", "healed"])
def test_every_variant_of_every_video_is_accounted_for_once(runs, name):
    ended = runs[name]
    written = {(row["video_id"], row["variant"]) for row in ended.rows("queries")}
    rejected = ended.rows("rejections", stage="synthesize", step="write")
    failed = ended.rows("failures", stage="synthesize", step="write")
    lost = [(row["video_id"], row["detail"].split(":")[0].split()[1]) for row in rejected]
    lost += [(row["video_id"], row["message"].split(":")[0].split()[1]) for row in failed]

    assert sorted([*written, *lost]) == sorted((video, variant) for video in CLIPS for variant in PAPERS_VARIANTS)


@pytest.mark.parametrize("name", ["first", "again", "none", "healed"])
def test_every_pair_is_accounted_for_once(runs, name):
    ended = runs[name]
    found = [ended.rows("judgements"), ended.rows("rejections", stage="judge"), ended.rows("failures", stage="judge")]
    pairs = [(row["query_id"], row["video_id"]) for rows in found for row in rows]
    [line] = [line for line in read_ledger((ended.output / "ledger.json").read_bytes()) if line.stage == "judge"]

    assert len(set(pairs)) == len(pairs) == line.entered
    assert line.left == len(found[0])
    assert sum(line.rejected.values()) == len(found[1])
    assert sum(line.failed.values()) == len(found[2])


@pytest.mark.parametrize("task", ["caption", "write", "judge"])
def test_what_the_server_answered_is_what_the_journal_holds(first, task):
    calls = [call for call in first.calls if call.task == task]
    answered = [call for call in calls if call.was_answered]
    kept = [record for record in first.records if record.step == task and record.failed is None]
    failed = [record for record in first.records if record.step == task and record.failed is not None]
    refused_captions = sum(task == "caption" and call.fault == "refusal" for call in answered)

    assert len({call.request for call in answered}) == len(answered)
    assert len(kept) == len(answered) - refused_captions
    assert len(kept) + len(failed) == len({call.request for call in calls})
    permanent = sum(call.fault == "400" for call in calls) + refused_captions
    assert sum(record.failed.permanent for record in failed) == permanent > 0
    assert len(failed) > permanent


@pytest.mark.parametrize(("task", "stage"), [("write", "synthesize"), ("judge", "judge")])
def test_what_cannot_be_read_is_a_rejection_with_its_reason_and_what_broke_a_failure_with_its_class(first, task, stage):
    spoilt = Counter(call.fault for call in first.calls if call.task == task and call.fault in SPOILT[task])
    rejected = Counter(row["reason"] for row in first.rows("rejections", stage=stage, step=task))
    failures = first.rows("failures", stage=stage, step=task)
    broken = [record for record in first.records if record.step == task and record.failed is not None]

    spoilt.pop("wrong schema", None)  # its next reply can be read
    reasons = {"refusal": "refused", "no tags": "no answer"}
    assert {reasons[fault]: times for fault, times in spoilt.items()} == rejected - Counter(
        {"no evidence": rejected["no evidence"]}
    )
    assert len(failures) == len(broken) > 0
    assert {row["error_class"] for row in failures} <= {"RequestRefused", "ServerFailed", "ServerSilent"}
    assert all(("HTTP 400" in row["message"]) == (row["error_class"] == "RequestRefused") for row in failures)
    assert all(("gave up" in row["message"]) == row["error_class"].startswith("Server") for row in failures)


def test_queries_that_could_not_be_read_were_asked_for_again_and_say_so(first):
    unreadable = [call for call in first.calls if call.fault == "wrong schema"]
    again = {(row["video_id"], row["variant"]) for row in first.rows("queries", attempts=2)}

    assert len(again) == len(unreadable) > 0
    assert len(first.rows("queries", attempts=1)) > 0


def test_a_video_without_caption_says_why(first):
    missing = [row["warnings"] for row in first.rows("videos") if not row["caption"]]
    broken = [record for record in first.records if record.step == "caption" and record.failed is not None]

    assert len(missing) == len(broken) > 0
    partial = read_partial_evidence((first.output / "ledger.json").read_bytes())
    assert partial["caption"] == {"engine failed": len(broken)}


def test_no_label_is_made_up(first):
    judged = [call for call in first.calls if call.task == "judge" and not call.fault]

    assert len(first.rows("judgements")) == len(judged)
    assert all(row["label"] in ("yes", "no") and row["delta"] is not None for row in first.rows("judgements"))


def test_the_same_command_retries_what_time_may_cure_and_nothing_else(runs):
    first, again = runs["first"], runs["again"]
    gave_up = {call.request for call in first.calls} - {
        call.request for call in first.calls if call.was_answered or call.fault == "400"
    }

    assert again.requests == gave_up
    assert len(again.calls) == ATTEMPTS * len(gave_up)
    changed = {path.split("/")[0] for path in first.hashes if first.hashes[path] != again.hashes[path]}
    assert changed <= {"failures", "videos"}  # which quote the last fault of each request


def test_without_retries_nothing_is_asked_and_nothing_changes(runs):
    assert runs["none"].calls == []
    assert runs["none"].hashes == runs["again"].hashes


def test_when_the_faults_have_passed_no_answer_is_bought_twice_and_no_failure_is_left(runs):
    healed = runs["healed"]
    answered = Counter(call.request for name in runs for call in runs[name].calls if call.was_answered)
    first = runs["first"].calls
    refused_captions = {call.request for call in first if call.task == "caption" and call.fault == "refusal"}
    bad_requests = {call.request for call in first if call.fault == "400"}

    assert {request for request, times in answered.items() if times > 1} == refused_captions
    assert healed.requests & bad_requests
    assert healed.rows("failures") == []
    assert all(row["caption"] for row in healed.rows("videos"))
    assert len(healed.rows("judgements")) > len(runs["first"].rows("judgements"))
