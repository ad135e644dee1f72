"""A small HTTP server on loopback that speaks chat completions: it plays a script of replies and faults."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """One HTTP reply. ``cut`` promises more bytes than are sent; ``silent`` sends nothing until the server closes.

    ``dropped`` closes the connection without a reply. ``trickle_s`` is the pause before each byte of the body.
    """

    body: bytes | dict[str, Any] = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    silent: bool = False
    dropped: bool = False
    trickle_s: float = 0.0


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; a GET has no body."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def completion(
    text: str | None, tokens: list[dict[str, Any]] | None = None, finish: str = "stop", **message: Any
) -> Reply:
    """A chat completion; ``tokens`` are entries of ``logprobs.content`` (see ``token``)."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text, **message}}
    choice |= {"finish_reason": finish, "logprobs": None if tokens is None else {"content": tokens}}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    return Reply({"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def token(text: str, logprob: float, **top: float) -> dict[str, Any]:
    """A token with its alternatives by keyword, bytes included as servers send them."""
    named = [{"token": name, "logprob": value, "bytes": list(name.encode())} for name, value in top.items()]
    return {"token": text, "logprob": logprob, "bytes": list(text.encode()), "top_logprobs": named}


class Listening(ThreadingHTTPServer):
    """Has as many connections wait to be accepted as servers do: beyond five, clients would try again after seconds."""

    request_queue_size = 128
    daemon_threads = True


class ScriptedServer:
    """Plays ``script`` in order, then its last reply again; or calls it with each request. Use as a context manager."""

    def __init__(self, script: list[Reply] | Callable[[Asked], Reply]) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = Listening(("127.0.0.1", 0), _handler_of(self))

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ScriptedServer:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _next(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            if callable(self.script):
                return self.script(asked)
            return self.script[min(len(self.asked), len(self.script)) - 1]


def _handler_of(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes: the second would wait 40 ms for an answer

        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _answer(self, content: dict[str, Any]) -> None:
            if server._closing.is_set():  # a connection that was kept alive outlasts the listening socket
                self.close_connection = True
                return
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply = server._next(Asked(self.path, headers, content))
            if reply.silent:
                server._closing.wait()
            if reply.silent or reply.dropped:
                self.close_connection = True
                return
            body = json.dumps(reply.body).encode() if isinstance(reply.body, dict) else reply.body
            self.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body) + reply.cut))
            self.end_headers()
            self.close_connection = reply.cut
            if not reply.trickle_s:
                self.wfile.write(body)
                return
            try:
                for byte in body:
                    if server._closing.wait(reply.trickle_s):
                        break
                    self.wfile.write(bytes([byte]))
            except ConnectionError:  # the client has lost patience
                pass
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    return Handler
