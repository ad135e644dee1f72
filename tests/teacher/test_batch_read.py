"""Replies of a batch: what is recorded of them, and what of damaged, repeated and unknown ones."""

import os
import random
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.video import Evidence
from tests.support.batch_double import jsonl
from tests.support.batch_questions import (
    ENGINE,
    KEY,
    answer,
    answered,
    ask,
    journal_lines,
    lines_of,
    output_line,
    question,
    read,
    thought,
    written,
)
from tests.support.scripted_server import Asked, Reply, ScriptedServer, completion
from transforms.journal import batch_files
from transforms.journal.batch_files import reply_files, request_files
from transforms.protocols.teacher import ContextOverflow, RequestRefused, TeacherFailed


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "batch")


def test_lines_are_joined_by_their_ids_in_any_order_of_lines_and_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(batch_files, "MAX_LINES", 4)
    questions = [question(n) for n in range(12)]
    ask(folder, tmp_path, *questions)
    lines = answered(folder)
    random.Random(0).shuffle(lines)

    read(folder, tmp_path, *(written(tmp_path / f"{n}.jsonl", lines[n::5]) for n in range(5)))

    assert ask(folder, tmp_path, *questions) == [thought(str(n)) for n in range(12)]


def test_a_line_that_is_read_twice_is_recorded_once(folder, tmp_path):
    ask(folder, tmp_path, question(1), question(2))
    good, bad = answered(folder)
    bad["response"] = {"status_code": 500, "request_id": "r", "body": {"error": {"message": "out of order"}}}
    path = written(tmp_path / "out.jsonl", [good, bad, good, bad])

    first, second = read(folder, tmp_path, path), read(folder, tmp_path, path)

    assert (first.replies, first.failures, first.before) == (1, 1, 2)
    assert (second.replies, second.failures, second.before) == (0, 0, 4)
    assert len(journal_lines(tmp_path)) == 2


@pytest.mark.parametrize(
    ("line", "message", "permanent"),
    [
        (output_line("", 400, {"error": {"message": "too hot"}}), "HTTP 400: too hot", True),
        (output_line("", 422, None, {"error": {"message": "too hot"}}), "HTTP 422: too hot", True),
        (output_line("", 400, None, {"object": "error", "message": "too hot"}), "HTTP 400: too hot", True),
        (output_line("", 400, None, "EngineDeadError: lost"), "EngineDeadError: lost", False),
        (output_line("", 429, {"error": {"message": "slow down"}}), "HTTP 429: slow down", False),
        (output_line("", 503, {"error": {"message": "busy"}}), "HTTP 503: busy", False),
        (output_line("", 200, {"choices": []}), "the reply is no chat completion", False),
        (output_line("", 200, "<html>"), "the reply is no chat completion", False),
        (output_line("", 200, None), "the reply is no chat completion", False),
        ({"response": None, "error": {"code": "request_timeout", "message": "too slow"}}, "too slow", False),
        ({"response": None, "error": None}, "no reply", False),
    ],
)
def test_an_error_line_is_a_recorded_failure_permanent_or_not_by_its_status(folder, tmp_path, line, message, permanent):
    ask(folder, tmp_path, question(), question(1))
    custom_id, _ = (asked["custom_id"] for asked in lines_of(folder))
    lines = [{**line, "custom_id": custom_id}, answered(folder)[1]]

    found = read(folder, tmp_path, written(tmp_path / "errors.jsonl", lines))

    assert (found.failures, found.replies, found.troubles) == (1, 1, [])
    (failed,) = ask(folder, tmp_path, question(), retry="none")
    assert str(failed).startswith(message)
    assert failed.permanent == permanent
    (later,) = ask(folder, tmp_path, question())
    assert isinstance(later, TeacherFailed) if permanent else later == "batch"
    assert len(lines_of(folder)) == (0 if permanent else 1)


@pytest.mark.parametrize(
    "told",
    [{"error": {"message": "too long", "code": "context_length_exceeded"}}, "maximum context length is 9 tokens"],
)
def test_a_prompt_that_is_too_long_is_known_as_such(folder, tmp_path, told):
    ask(folder, tmp_path, question())
    (line,) = lines_of(folder)
    read(folder, tmp_path, written(tmp_path / "e.jsonl", [output_line(line["custom_id"], 400, None, told)]))

    assert [type(outcome) for outcome in ask(folder, tmp_path, question())] == [ContextOverflow]


def test_a_failure_reads_as_that_of_a_live_run(folder, tmp_path):
    bad = Reply({"error": {"message": "the prompt is\nbad", "type": "x"}}, status=400)
    questions = question(), question(1)

    def reply(asked: Asked) -> Reply:
        return answer(asked) if asked.body["messages"][1]["content"] == "user 1" else bad

    with ScriptedServer(reply) as server:
        live, _ = ask("", tmp_path / "live", *questions, engine=replace(ENGINE, base_url=server.base_url))
    ask(folder, tmp_path, *questions)
    read(folder, tmp_path, written(tmp_path / "e.jsonl", answered(folder, reply)))
    batched, _ = ask(folder, tmp_path, *questions)

    assert type(batched) is type(live) is RequestRefused
    assert (str(batched), batched.permanent) == (str(live), live.permanent)


def test_of_a_batch_that_was_refused_as_a_whole_nothing_is_final_and_the_words_are_told(folder, tmp_path):
    questions = [question(n, evidence=Evidence(caption=f"Tram {n}.")) for n in range(12)]
    ask(folder, tmp_path, *questions)
    refused = answered(folder, lambda _: Reply({"error": {"message": "no max_tokens"}}, status=400))

    found = read(folder, tmp_path, written(tmp_path / "e.jsonl", refused))

    assert [trouble.examples for trouble in found.troubles] == [
        ["judge: the first questions were all refused in the same words: HTTP 400: no max_tokens"]
    ]
    assert set(ask(folder, tmp_path, *questions)) == {"batch"}


@pytest.mark.parametrize(
    ("status", "error", "problem"),
    [
        (401, {"message": f"bad key {KEY}"}, "HTTP 401: bad key ***"),
        (404, {"message": "no model m"}, "HTTP 404: no model m"),
        (429, {"message": "pay", "code": "insufficient_quota"}, "HTTP 429: pay"),
    ],
)
def test_what_every_question_would_meet_is_told_and_not_recorded(folder, tmp_path, status, error, problem):
    ask(folder, tmp_path, question(1), question(2))
    refused = answered(folder, lambda _: Reply({"error": error}, status=status))

    found = read(folder, tmp_path, written(tmp_path / "errors.jsonl", refused), key=KEY)

    assert (found.refused.count, found.refused.examples) == (2, [problem])
    assert journal_lines(tmp_path) == []
    assert len(lines_of(folder)) == 2


def test_a_key_that_a_server_tells_is_not_recorded(folder, tmp_path):
    ask(folder, tmp_path, question(1), question(2))
    first, second = lines_of(folder)
    told = completion(f"<think>{KEY}</think><answer>yes</answer>").body
    bad = output_line(second["custom_id"], 400, {"error": {"message": f"bad {KEY}"}})
    read(folder, tmp_path, written(tmp_path / "o.jsonl", [output_line(first["custom_id"], 200, told), bad]), key=KEY)

    assert len(journal_lines(tmp_path)) == 2
    assert KEY.encode() not in b"".join(journal_lines(tmp_path))


def test_what_a_batch_gave_up_on_waits_on_and_is_not_asked_twice(folder, tmp_path):
    questions = [question(n) for n in range(4)]
    ask(folder, tmp_path, *questions)
    output = answered(folder)
    errors = [
        {"custom_id": output[3]["custom_id"], "response": None, "error": {"code": "batch_expired", "message": "late"}},
        {"custom_id": output[2]["custom_id"], "response": None, "error": {"code": "batch_cancelled", "message": "x"}},
    ]

    found = read(folder, tmp_path, *(written(tmp_path / n, o) for n, o in (("o", output[:1]), ("e", errors))))

    assert (found.replies, found.not_asked, found.failures) == (1, 2, 0)
    assert ask(folder, tmp_path, *questions) == [thought("0"), "batch", "batch", "batch"]
    assert [line["custom_id"] for line in lines_of(folder)] == [line["custom_id"] for line in output[1:]]


def test_a_cut_file_costs_what_was_cut_off_and_garbage_nothing(folder, tmp_path):
    questions = [question(n) for n in range(3)]
    ask(folder, tmp_path, *questions)
    whole = jsonl(answered(folder))
    garbage = b'<html>\n\n{"custom_id": 1}\n[]\n\xff\xfe\n{"a": 1}\n' + b"[" * 100_000 + b"\n" + whole[:-40]

    found = read(folder, tmp_path, written(tmp_path / "out.jsonl", garbage))

    assert (found.replies, found.unreadable.count) == (2, 7)
    assert found.unreadable.examples[0].endswith("out.jsonl:1")
    assert ask(folder, tmp_path, *questions) == [thought("0"), thought("1"), "batch"]


@pytest.mark.parametrize("custom_id", ["", "request-1", "f" * 32, "F" * 32, "x" * 5000, "../../etc/passwd"])
def test_ids_that_no_question_has_are_counted_and_named(folder, tmp_path, custom_id):
    ask(folder, tmp_path, question())
    path = written(tmp_path / "o.jsonl", [output_line(custom_id, 200, completion("yes").body)])

    found = read(folder, tmp_path, path)

    assert (found.unknown.count, found.unknown.examples) == (1, [custom_id[:80]])
    assert journal_lines(tmp_path) == []


def test_files_in_the_folder_are_put_away_once_read_and_others_stay(folder, tmp_path):
    for _ in range(2):
        ask(folder, tmp_path, question(1), question(2))
        (request_file,) = request_files(folder)
        name = request_file.name.replace("requests", "replies")
        written(Path(folder) / name, answered(folder)[:1] if "read" not in os.listdir(folder) else [])
        read(folder, tmp_path)

    assert sorted(path.name for path in (Path(folder) / "read").iterdir()) == sorted([name, name[:-6] + ".1.jsonl"])
    assert reply_files(folder) == []
    elsewhere = written(tmp_path / "elsewhere.jsonl", [])
    read(folder, tmp_path, elsewhere)
    assert elsewhere.exists()
