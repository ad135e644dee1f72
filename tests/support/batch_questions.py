"""Questions to a teacher for tests of batches: asked in a run, answered, read, and looked up in the journal."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from pipeline.batch.read import Reading, read_batch
from prompts.template import Prompt
from schemas.video import Evidence, MediaFacts, Video
from tests.support.batch_double import jsonl, run_batch
from tests.support.scripted_server import Asked, Reply, completion, token
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.journal.batch_files import reply_files, request_files
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.protocols.teacher import TeacherFailed, TeacherRequest
from transforms.teacher.recorded_teacher import RecordedTeacher

NOWHERE = "http://127.0.0.1:9/v1"
KEY = "sk-canary-7Q2f9XbL0pWz4TtYv8KdRm3E"
ENGINE = OpenAiTeacher(model="m", base_url=NOWHERE, timeout_s=5.0, attempts=1)
VIDEO = Video("tram", "/tram.mp4", MediaFacts("0" * 64, 1), Evidence(caption="A red tram leaves."))


def question(n: int = 0, **changes) -> TeacherRequest:
    request = TeacherRequest("judge", Prompt("system", f"user {n}"), Evidence(caption="A tram."), "a tram", seed=n)
    return replace(request, **{"subject": f"q-{n}", "confidence": "logprobs", **changes})


def answer(asked: Asked) -> Reply:
    """Says which question it answers."""
    word = asked.body["messages"][1]["content"].split()[-1]
    tokens = [token("<answer>", -0.1), token("yes", -0.2, yes=-0.2, no=-1.7), token("</answer>", -0.1)]
    return completion(f"<think>{word}</think><answer>yes</answer>", tokens)


def ask(folder: str, cache: Path, *requests: TeacherRequest, engine=ENGINE, **options) -> list[object]:
    """What becomes of questions in a run: the text of a reply, why it was deferred, or how it failed."""
    with closing(Journal(str(cache), batch=folder, **options)) as journal:
        return [asked_of(RecordedTeacher(engine, journal), request) for request in requests]


def asked_of(teacher: RecordedTeacher, request: TeacherRequest) -> object:
    try:
        return teacher.reply(request).text
    except Deferred as deferred:
        return deferred.reason
    except TeacherFailed as error:
        return error


def lines_of(folder: str) -> list[dict]:
    return [json.loads(line) for path in request_files(folder) for line in path.read_text().splitlines()]


def read(folder: str, cache: Path, *files: Path, key: str = "") -> Reading:
    with closing(Journal(str(cache), "all")) as journal:
        return read_batch(folder, files or reply_files(folder), journal, key, lambda _: None)


def written(path: Path, lines: list[dict] | bytes) -> Path:
    path.write_bytes(lines if isinstance(lines, bytes) else jsonl(lines))
    return path


def answered(folder: str, to=answer) -> list[dict]:
    return [line for path in request_files(folder) for line in run_batch(path, to)]


def output_line(custom_id: str, status: int = 200, body: object = None, error: object = None) -> dict:
    return {
        "custom_id": custom_id,
        "response": {"status_code": status, "request_id": "r", "body": body},
        "error": error,
    }


def thought(word: str) -> str:
    return f"<think>{word}</think><answer>yes</answer>"


def journal_lines(cache: Path) -> list[bytes]:
    return [line for path in cache.glob("journal/judge/*.jsonl") for line in path.read_bytes().splitlines()]


def values(cache: Path) -> dict[str, str]:
    """Key, value and usage of every record, without the time that it took."""
    records = [json.loads(line[58:]) for line in journal_lines(cache)]
    return {json.dumps([r["settings"], r["inputs"]]): json.dumps([r["value"], r["usage"]]) for r in records}


def completed(content: bytes) -> tuple[str, bytes | None, bytes | None]:
    lines = [json.loads(line) for line in content.splitlines()]
    output = [output_line(each["custom_id"], 200, answer(Asked("", {}, each["body"])).body) for each in lines]
    return "completed", jsonl(output), None
