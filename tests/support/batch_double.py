"""What answers batch files in tests: a double of `vllm run-batch`, and one of OpenAI's files and batches."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from tests.support.scripted_server import Asked, Listening, Reply

Answer = Callable[[Asked], Reply]


def run_batch(requests: Path, answer: Answer) -> list[dict[str, Any]]:
    """The lines that come of a file of questions, each answered as a server would answer it live."""
    return [_output(json.loads(line), answer) for line in requests.read_text().splitlines()]


def _output(line: dict[str, Any], answer: Answer) -> dict[str, Any]:
    assert line.keys() == {"custom_id", "method", "url", "body"}
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    reply = answer(Asked(line["url"], {}, line["body"]))
    response = {"status_code": reply.status, "request_id": "r", "body": reply.body}
    return {"id": "b", "custom_id": line["custom_id"], "response": response, "error": None}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """Lines of JSON."""
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class BatchServerDouble:
    """OpenAI's files and batches on loopback. A batch is in progress when first looked at, and has ended at the next.

    ``outcome`` makes output and error lines, either None for no such file, and the status in which a batch ends, from
    the content of its input file. ``faults`` are consumed by the first requests whose method and path begin so:
    "drop" carries the request out, but does not answer; a number is an HTTP status.
    """

    def __init__(self, outcome: Callable[[bytes], tuple[str, bytes | None, bytes | None]]) -> None:
        self.outcome = outcome
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.keys: set[str | None] = set()
        self.faults: dict[str, str | int] = {}
        self.errors: list[dict[str, Any]] = []
        self._lock = Lock()
        self._server = Listening(("127.0.0.1", 0), _handler_of(self))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> BatchServerDouble:
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fault_of(self, call: str) -> str | int | None:
        with self._lock:
            self.asked.append(call)
            found = next((start for start in self.faults if call.startswith(start)), None)
            return None if found is None else self.faults.pop(found)

    def upload(self, content: bytes) -> dict[str, Any]:
        number = len(self.files)
        self.files[f"file-{number}"] = content
        facts = {"id": f"file-{number}", "object": "file", "bytes": len(content), "created_at": 1, "purpose": "batch"}
        return {**facts, "filename": "f", "status": "processed"}

    def begin(self, given: dict[str, Any]) -> dict[str, Any]:
        assert (given["endpoint"], given["completion_window"]) == ("/v1/chat/completions", "24h")
        number = len(self.batches)
        batch = {"id": f"batch-{number}", "object": "batch", "status": "validating", "created_at": 1, **given}
        self.batches[batch["id"]] = batch
        return batch

    def look(self, batch_id: str) -> dict[str, Any]:
        batch = self.batches[batch_id]
        if batch["status"] == "validating":
            batch["status"] = "in_progress"
        elif batch["status"] == "in_progress":
            content = self.files[batch["input_file_id"]]
            batch["status"], output, errors = self.outcome(content)
            for name, lines in (("output_file_id", output), ("error_file_id", errors)):
                if lines is not None:
                    batch[name] = f"file-{len(self.files)}"
                    self.files[batch[name]] = lines
            if batch["status"] == "failed":
                batch["errors"] = {"object": "list", "data": self.errors}
        return batch


def _handler_of(server: BatchServerDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if found := re.fullmatch(r"/v1/files/(.+)/content", path):
                self._answer(lambda: server.files[found[1]])
            elif found := re.fullmatch(r"/v1/batches/(.+)", path):
                self._answer(lambda: server.look(found[1]))
            else:
                assert path == "/v1/batches"
                listed = list(reversed(server.batches.values()))
                self._answer(lambda: {"object": "list", "data": listed, "has_more": False})

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/files":
                self._answer(lambda: server.upload(_file_of(self.headers["content-type"], content)))
            else:
                assert self.path == "/v1/batches"
                self._answer(lambda: server.begin(json.loads(content)))

        def _answer(self, act: Callable[[], dict[str, Any] | bytes]) -> None:
            server.keys.add(self.headers["authorization"])
            fault = server.fault_of(f"{self.command} {self.path}")
            if isinstance(fault, int):
                told = f"no, {self.headers['authorization']}"
                self._send(fault, json.dumps({"error": {"message": told}}).encode())
                return
            said = act()
            if fault == "drop":
                self.close_connection = True
                return
            self._send(200, said if isinstance(said, bytes) else json.dumps(said).encode())

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _file_of(content_type: str, content: bytes) -> bytes:
    """The uploaded file of a multipart form."""
    form = BytesParser().parsebytes(f"content-type: {content_type}\r\n\r\n".encode() + content)
    parts: Iterator[Any] = iter(form.get_payload())
    return next(part.get_payload(decode=True) for part in parts if part.get_filename())
