"""The server of the page: on this machine alone, below an address that nobody can guess, with one output to show."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from functools import cache, partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from pipeline.outputs.errors import NotAnOutput
from pipeline.outputs.view.desk import PAGE, Desk, NoSuchThing
from pipeline.outputs.view.files import span
from schemas.check import read_json
from schemas.visible import UNREADABLE, visible

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_PAGES = {
    "": ("page.html", "text/html; charset=utf-8"),
    "view.css": ("view.css", "text/css; charset=utf-8"),
    "view.js": ("view.js", "text/javascript; charset=utf-8"),
}
_MOST_POSTED = 1 << 16  # bytes


class ViewServer(ThreadingHTTPServer):
    """Serves one output on the loopback interface; ``url`` is where, and holds a secret of this server alone.

    Another program's page in the same browser cannot learn the address, and a name that is made to resolve to this
    machine is refused, for a browser sends it along as Host.
    """

    daemon_threads = True
    request_queue_size = 128  # a page asks for many frames at once

    def __init__(self, desk: Desk, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.desk = desk
        self.secret = secrets.token_urlsafe(16)
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.url = f"http://127.0.0.1:{self.server_port}/{self.secret}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle of an answer is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: ViewServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_HEAD(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal stays quiet; the address, which is a secret, would be in every line."""

    def _answer(self, act: Callable[[str, dict[str, str]], None]) -> None:
        parts = urlsplit(self.path)
        _, secret, path = (*parts.path.split("/", 2), "", "")[:3]
        if self.headers.get("Host") not in self.server.hosts:
            return self._send_text(HTTPStatus.MISDIRECTED_REQUEST, "this server is asked for by another name")
        if not secrets.compare_digest(secret.encode(), self.server.secret.encode()):
            return self._send_text(HTTPStatus.NOT_FOUND, "open the whole address that hardquery view printed")
        asked = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        try:
            act(path, asked)
        except NoSuchThing as error:
            self._send_text(HTTPStatus.NOT_FOUND, str(error))
        except NotAnOutput as error:  # a run has published in the meantime, or a shard is damaged
            self._send_text(HTTPStatus.CONFLICT, f"{error}; start hardquery view again")
        except (ValueError, KeyError) as error:
            self._send_text(HTTPStatus.BAD_REQUEST, str(error))

    def _get(self, path: str, asked: dict[str, str]) -> None:
        desk = self.server.desk
        match path:
            case "" | "view.css" | "view.js":
                name, kind = _PAGES[path]
                self._send(page_file(name), kind)
            case "api/about":
                self._send_json(desk.about())
            case "api/pairs":
                self._send_json(desk.pairs())
            case "api/question":
                self._send_json(desk.question(asked["id"]))
            case "api/list" | "api/facets" | "api/query" if desk.asked is not None:
                raise NoSuchThing("while people label, the judge's answers are not shown")
            case "api/list":
                filters = {name[2:]: value for name, value in asked.items() if name.startswith("f.")}
                first = int(asked.get("first", "0"))
                found = desk.list(asked["of"], filters, asked.get("sort", ""), asked.get("search", ""), first, PAGE)
                self._send_json(found)
            case "api/facets":
                self._send_json(desk.facets(asked["of"]))
            case "api/query":
                self._send_json(desk.query(asked["id"]))
            case "api/video":
                self._send_json(desk.video(asked["id"]))
            case "frame":
                self._send(desk.frame(asked["id"], int(asked["n"])), "image/jpeg", keep=True)
            case "source":
                self._send_source(asked["id"])
            case _:
                raise NoSuchThing(f"there is no page {path!r}")

    def _post(self, path: str, _: dict[str, str]) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        if size > _MOST_POSTED:
            self.close_connection = True
            raise ValueError(f"a note of {size} bytes is too long")
        said = read_json(self.rfile.read(size), dict[str, str])
        desk = self.server.desk
        mark = partial(desk.mark, looks_like=said.get("looks_like", ""))
        acts = {"api/mark": mark} if desk.asked is None else {"api/answer": desk.answer}
        if path not in acts:
            raise NoSuchThing(f"there is no page {path!r}")
        self._send_json(acts[path](said["query_id"], said["video_id"], said["verdict"], said.get("note", "")))

    def _send_source(self, video_id: str) -> None:
        source = self.server.desk.source(video_id)
        if source is None:
            raise NoSuchThing(f"the file of video {video_id!r} is not on this machine, or not as it was read")
        asked = self.headers.get("Range", "")
        part = span(asked, source.size)
        if part is None:
            self._head(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, source.kind, 0, **_range(f"*/{source.size}"))
            return
        first, last = part
        status = HTTPStatus.PARTIAL_CONTENT if asked else HTTPStatus.OK
        ranged = _range(f"{first}-{last}/{source.size}") if asked else {}
        self._head(status, source.kind, last - first + 1, **{"Accept-Ranges": "bytes"}, **ranged)
        if self.command != "HEAD":
            for block in source.read(first, last):
                self.wfile.write(block)

    def _send_json(self, value: Any) -> None:
        self._send(msgspec.json.encode(plain(value)), "application/json")

    def _send_text(self, status: HTTPStatus, said: str) -> None:
        data = visible(said, UNREADABLE).encode()
        if self.command == "POST":
            self.close_connection = True  # its body may still be unread
        self._head(status, "text/plain; charset=utf-8", len(data))
        if self.command != "HEAD":
            self.wfile.write(data)

    def _send(self, data: bytes, kind: str, keep: bool = False) -> None:
        kept = "private, max-age=3600" if keep else "no-store"
        self._head(HTTPStatus.OK, kind, len(data), **{"Cache-Control": kept})
        if self.command != "HEAD":
            self.wfile.write(data)

    def _head(self, status: HTTPStatus, kind: str, length: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(length), **_HEADERS, **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _range(what: str) -> dict[str, str]:
    return {"Content-Range": f"bytes {what}"}


@cache
def page_file(name: str) -> bytes:
    """A file of the page as it comes with the project."""
    palette = resources.files("pipeline.outputs").joinpath("palette.css").read_bytes() if name.endswith(".css") else b""
    return palette + resources.files("pipeline.outputs.view").joinpath(name).read_bytes()


def plain(value: Any) -> Any:
    """Plain values with every character that shows nothing, or turns text around, replaced by one that is seen."""
    match value:
        case str():
            return visible(value, UNREADABLE)
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
        case _:
            return value
