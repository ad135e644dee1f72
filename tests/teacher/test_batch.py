"""The commands of a batch, and a whole run in batches."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.verify.verify import verify
from runners.cli.errors import DEFERRED
from runners.cli.main import main
from tests.support import faulty_server
from tests.support.batch_double import BatchServerDouble, jsonl, run_batch
from tests.support.batch_questions import (
    KEY,
    NOWHERE,
    ask,
    completed,
    question,
    written,
)
from tests.support.probe_double import Double
from tests.support.scripted_server import Asked, Reply, ScriptedServer
from tests.support.tiny_cache import judge
from transforms.engines.openai.probing.probe import QUESTION
from transforms.journal.batch_files import request_files


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "batch")


CLIPS = ("launch_ostara_1", "launch_ostara_2", "tram_linden_1", "tram_linden_3")
FAST = [
    *"extract.asr=null extract.ocr=null extract.frames.max_frames=2 emit.frames=null emit.validation_fraction=0 "
    "synthesize.variants=[caption,metadata] mine.ambiguity.ratio=1000 judge.modalities=[metadata]".split(),
    "mine.first_stage={engine: bm25}",
]


def respond(asked: Asked) -> Reply:
    """Writes and judges; what a third of the judge's questions hold is a bad request."""
    if not asked.body or asked.body["messages"][0]["content"].endswith(QUESTION):
        return Double()(asked)
    if "response_format" in asked.body:
        return faulty_server.write(asked)
    return faulty_server.BAD_REQUEST if asked.body["seed"] % 3 == 0 else faulty_server.judge(asked)


def command(tmp_path: Path, name: str, base_url: str) -> list[str]:
    engine = json.dumps({"engine": "openai", "model": "m", "base_url": base_url, "attempts": 1, "timeout_s": 20})
    settings = [*FAST, f"synthesize.teacher={engine}", f"judge.teacher={engine}"]
    given = ["--input", str(tmp_path / "list.jsonl"), "--output", str(tmp_path / name / "out"), "--workers", "1"]
    return ["run", "demo", *given, *(f"--set={setting}" for setting in settings)]


def questions_of(server: ScriptedServer) -> list[str]:
    """The bodies that a server was asked, apart from what it was asked to see what it can do."""
    bodies = [json.dumps(asked.body, sort_keys=True) for asked in server.asked]
    return sorted(body for body in bodies if "END EVIDENCE" in body)


def hashes(output: Path) -> dict[str, str]:
    return {file.path: file.sha256 for file in read_manifest(str(output)).files if file.rows is not None}


def send(base_url: str, path: Path) -> list[dict]:
    """Plays run-batch by sending the lines to a server."""

    def post(asked: Asked) -> Reply:
        url = base_url.removesuffix("/v1") + asked.path
        request = urllib.request.Request(url, json.dumps(asked.body).encode(), {"content-type": "application/json"})
        try:
            with urllib.request.urlopen(request) as response:
                return Reply(json.load(response))
        except urllib.error.HTTPError as error:
            return Reply(json.load(error), status=error.code)

    return run_batch(path, post)


def test_a_run_in_batches_ends_in_the_bytes_of_a_live_one_and_asks_the_same(samples, tmp_path, capsys):
    lines = [json.loads(line) for line in (samples / "manifest.jsonl").read_text().splitlines()]
    chosen = [{**line, "uri": str(samples / line["uri"])} for line in lines if line["video_id"] in CLIPS]
    (tmp_path / "list.jsonl").write_text(jsonl(chosen).decode())
    folder, output = str(tmp_path / "b atch"), tmp_path / "batched" / "out"
    with ScriptedServer(respond) as server:
        assert main(command(tmp_path, "live", server.base_url)) == 0
    live = questions_of(server)
    in_batch = [*command(tmp_path, "batched", NOWHERE), "--batch", folder]

    rounds = []
    with ScriptedServer(respond) as server:
        while (code := main(in_batch)) == DEFERRED:
            assert verify(str(output)) == []
            printed = capsys.readouterr().out
            rounds.append(sum(read_manifest(str(output)).work.get(step, {}).get("batched", 0) for step in STEPS))
            assert f"batch: {rounds[-1]:,} questions written" in printed
            assert f"hardquery batch read '{folder}' --output {output}" in printed
            for path in request_files(folder):
                written(path.with_name(path.name.replace("requests", "replies")), send(server.base_url, path))
            assert main(["batch", "read", folder, "--output", str(output)]) == 0
            capsys.readouterr()

    assert code == 0
    assert "batch: no question is left" in capsys.readouterr().out
    assert verify(str(output)) == []
    assert hashes(output) == hashes(tmp_path / "live" / "out")
    assert sum(file.rows for file in read_manifest(str(output)).files if file.path.startswith("ranking/")) > 0
    assert len(rounds) == 2
    assert questions_of(server) == live


STEPS = ("write", "judge")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["run", "demo", "--input", "x", "--output", "y", "--batch", "z"],
            "needs a teacher behind an OpenAI",
        ),
        (["run", "demo", "--input", "x", "--output", "y", "--batch", "gs://b/z"], "name a folder of this machine"),
        (["run", "demo", "--input", "x", "--output", "y", "--batch", ""], "name a folder of this machine"),
        (["batch", "read", "no/such", "--cache", "."], "is no folder of batch files"),
        (["batch", "read", ".", "--cache", "no/such"], "no/such"),
        (["batch", "submit", ".", "--base-url", "localhost:8000/v1"], "must be an http(s) address"),
        (["batch", "fetch", ".", "--base-url", "http://joe:PASSWORD@localhost/v1"], "must hold no credentials"),
        (["batch", "fetch", ".", "--base-url", "http://localhost/key-of-joe/v1"], "base_url holds the key"),
        (["batch", "submit", ".", "--api-key-env", "NONE"], "set the environment variable NONE"),
    ],
)
def test_a_wrong_command_is_one_line_that_names_the_fix(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-joe")

    assert main(arguments) == 2

    captured = capsys.readouterr()
    assert message in captured.err
    assert not {"PASSWORD", "key-of-joe"} & set(re.findall(r"[\w-]+", captured.out + captured.err))
    assert captured.err.count("\n") == 1


def test_the_command_submits_and_fetches_and_reads(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    cache = tmp_path / "cache"
    judge(str(cache), 1)
    ask(folder, cache, question())
    with BatchServerDouble(completed) as double:
        server = ["--base-url", double.base_url, "--api-key-env", "MY_KEY"]
        assert main(["batch", "submit", folder, *server]) == 0
        assert main(["batch", "fetch", folder, *server, "--once"]) == DEFERRED
        assert main(["batch", "fetch", folder, *server, "--once"]) == 0
        double.faults["GET"] = 401
        (Path(folder) / "batches.json").unlink()
        assert main(["batch", "submit", folder, *server]) == 0
    assert main(["batch", "read", folder, "--cache", str(cache)]) == 0

    printed = capsys.readouterr()
    assert "1 batches begun" in printed.out
    assert "its replies lie unread" in printed.err
    assert "1 replies and 0 failures recorded, 0 known before; 0 questions wait on" in printed.out
    assert KEY not in printed.out + printed.err


def test_help_teaches_the_round():
    ended = subprocess.run(
        [sys.executable, "-m", "runners", "batch", "--help"], capture_output=True, text=True, check=True
    )

    for step in ("--batch DIR", "batch submit DIR", "batch fetch DIR", "batch read DIR", "vllm run-batch"):
        assert step in ended.stdout
