"""Batches at OpenAI's server: submitted once, fetched whole, whatever fails on the way."""

import json
from pathlib import Path

import pytest

from pipeline.batch.server import BatchServer, BatchServerError
from runners.cli.errors import PROBLEMS
from runners.cli.runs.batch import fetch
from tests.support.batch_double import BatchServerDouble, jsonl
from tests.support.batch_questions import (
    KEY,
    ask,
    completed,
    lines_of,
    question,
    read,
    thought,
)
from transforms.journal import batch_files
from transforms.journal.batch_files import reply_files, request_files


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "batch")


def server_of(folder: str, double: BatchServerDouble, told: list[str] | None = None) -> BatchServer:
    return BatchServer(folder, double.base_url, KEY, (told if told is not None else []).append)


def failed(server: BatchServer) -> BatchServerError | None:
    """Submit and fetch; the error that stopped it."""
    try:
        server.submit()
        fetched(server)
    except BatchServerError as error:
        return error
    return None


def fetched(server: BatchServer) -> int:
    return fetch(server, once=False, sleep=lambda _: None)


def test_a_batch_is_submitted_fetched_and_read(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(batch_files, "MAX_LINES", 2)
    questions = [question(n) for n in range(5)]
    ask(folder, tmp_path, *questions)
    contents = [path.read_bytes() for path in request_files(folder)]

    with BatchServerDouble(completed) as double:
        assert server_of(folder, double).submit() == 3
        assert [double.files[batch["input_file_id"]] for batch in double.batches.values()] == contents
        assert server_of(folder, double).submit() == 0
        assert server_of(folder, double).fetch() == (3, 0)
        assert fetched(server_of(folder, double)) == 0
        assert server_of(folder, double).submit() == 0  # the replies lie unread
    assert double.keys == {f"Bearer {KEY}"}
    assert read(folder, tmp_path).replies == 5

    assert ask(folder, tmp_path, *questions) == [thought(str(n)) for n in range(5)]
    assert len(double.batches) == 3
    held = b"".join(path.read_bytes() for path in Path(folder).rglob("*") if path.is_file())
    assert KEY.encode() not in held
    assert double.base_url.encode() not in held


def test_an_expired_batch_gives_what_it_has_and_the_rest_is_submitted_again(folder, tmp_path):
    questions = [question(n) for n in range(4)]
    ask(folder, tmp_path, *questions)

    def expired(content: bytes) -> tuple[str, bytes | None, bytes | None]:
        lines = completed(content)[1].splitlines(keepends=True)
        late = {"code": "batch_expired", "message": "too late"}
        ids = [json.loads(line)["custom_id"] for line in lines]
        errors = [{"custom_id": each, "response": None, "error": late} for each in ids[1:]]
        return "expired", lines[0], jsonl(errors)

    with BatchServerDouble(expired) as double:
        server_of(folder, double).submit()
        fetched(server_of(folder, double))
        assert (read(folder, tmp_path).replies, len(lines_of(folder))) == (1, 3)
        double.outcome = completed
        assert server_of(folder, double).submit() == 1
        fetched(server_of(folder, double))
        assert read(folder, tmp_path).replies == 3

    assert ask(folder, tmp_path, *questions) == [thought(str(n)) for n in range(4)]


def test_a_batch_that_fails_validation_says_why_and_can_be_submitted_again(folder, tmp_path):
    ask(folder, tmp_path, question())
    told: list[str] = []
    with BatchServerDouble(lambda _: ("failed", None, None)) as double:
        double.errors = [{"code": "model_not_found", "message": f"no model, {KEY}", "line": 1, "param": "body.model"}]
        server_of(folder, double).submit()
        assert fetched(server_of(folder, double, told)) == PROBLEMS
        assert any(line.endswith("line 1: no model, ***") for line in told)
        assert reply_files(folder) == []
        double.outcome = completed
        assert server_of(folder, double).submit() == 1
        assert fetched(server_of(folder, double)) == 0

    assert read(folder, tmp_path).replies == 1


@pytest.mark.parametrize(
    "fault", ["POST /v1/files", "POST /v1/batches", "GET /v1/batches/", "GET /v1/files/"], ids=lambda call: call[:14]
)
@pytest.mark.parametrize("kind", ["drop", 400])
def test_each_call_may_fail_and_no_batch_is_begun_twice(folder, tmp_path, fault, kind, monkeypatch):
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.0)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.0)
    ask(folder, tmp_path, question())
    with BatchServerDouble(completed) as double:
        double.faults[fault] = kind
        failures = [failure for _ in range(2) if (failure := failed(server_of(folder, double)))]

        assert len(failures) == (kind == 400 or fault == "POST /v1/batches")
        for failure in failures:
            assert KEY not in str(failure)
            assert "the same command continues" in str(failure)
            assert failure.__context__ is None
        assert len(double.batches) == 1
    assert read(folder, tmp_path).replies == 1


def test_a_submission_that_is_killed_between_its_calls_goes_on_where_it_was(folder, tmp_path):
    ask(folder, tmp_path, question(1))
    with BatchServerDouble(completed) as double:
        server_of(folder, double).submit()
        state = Path(folder) / "batches.json"
        state.write_text(state.read_text().replace("batch-0", ""))

        assert server_of(folder, double).submit() == 1
        assert len(double.batches) == 1
        assert fetched(server_of(folder, double)) == 0
