"""A plain client for OpenAI-compatible servers: one blocking call, retried; all engines behind them share it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar, cast

import msgspec

from schemas.usage import Usage
from transforms.engines.openai.completion import NoAnswer, read_completion
from transforms.engines.openai.options import ChatOptions, ServedOptions
from transforms.engines.server.api_key import KeyKeeper
from transforms.engines.server.connection import Connection
from transforms.engines.server.deadline import Deadline
from transforms.engines.server.endpoints import UNREACHABLE, Server, Servers
from transforms.engines.server.faults import Fault, FaultReader
from transforms.engines.server.retry import pause_s
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import ServerFailed, ServerSilent, TeacherFailed, TeacherReply
from transforms.workers.event_loop import EventLoop, event_loop

Messages = Sequence[Mapping[str, object]]


class Answer(Protocol):
    """What is read of a reply: a frozen dataclass that says what the call used."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def usage(self) -> Usage | None: ...


A = TypeVar("A", bound=Answer)

CHECK_TIMEOUT_S = 10.0
BAD_GATEWAY = 502
"""The status of an error that a server states inside a reply, without one of its own."""
STUMBLES = 2
"""So many times a request is tried again that the server answered with an error 500, which may be its own fault."""

_LIBRARIES = ("openai", "httpx2", "httpcore2", "aiohttp")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent where, and how its reply is read, which should be ``wanted``."""

    path: str
    body: dict[str, Any]
    read: Callable[[bytes], Answer]
    wanted: str
    at_root: bool = False

    @property
    def kind(self) -> tuple[object, ...]:
        """Requests of one kind take about as long: a token, a verdict, a list of queries; a text, a video."""
        return self.path, self.body.get("max_tokens"), "response_format" in self.body, "messages" in self.body


class Client:
    """A client for one model and its servers; safe to call from many threads.

    At most ``in_flight`` calls are under way in this process, sent no faster than each server takes them (see
    ``Servers``). A request that waits to be tried again leaves its place to others.

    Servers quote keys, in errors and in replies. What leaves this class is therefore cleaned of the key, and its errors
    are raised outside of ``except`` blocks: a traceback would show the library's error, which quotes the server.
    """

    def __init__(self, options: ServedOptions, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        for library in _LIBRARIES:
            logging.getLogger(library).setLevel(logging.WARNING)  # below that they log headers
        self._options = options
        self._key = options.key()
        self._keeper = KeyKeeper(self._key)
        self._sleep = sleep
        # All that follows changes in the event loop only.
        self._unreachable = 0  # requests in a row that gave up without any reply
        self._deadlines: defaultdict[object, Deadline] = defaultdict(lambda: Deadline(options.timeout_s))
        self._open: _Connections | None = None

    def check(self) -> tuple[str, ...]:
        """See ``ChatOptions.check``; the addresses that answer, also those without a list of models or too busy."""
        loop = event_loop()
        faults = loop.run(self._silent(loop))
        for fault in faults.values():
            if fault.final is not None:
                raise fault.final
        answer = tuple(endpoint.url for endpoint in self._options.endpoints if endpoint.url not in faults)
        problems = [f"no answer from {url} ({fault.problem})" for url, fault in faults.items()]
        if not answer:
            raise EngineError(f"{'; '.join(problems)}; start the server, or correct base_url")
        for problem in problems:
            _log.warning("%s; the other servers do its work until it is there", problem)
        return answer

    async def _silent(self, loop: EventLoop) -> dict[str, Fault]:
        """The servers that give no reply or refuse the key, by address."""
        limit_s = min(CHECK_TIMEOUT_S, self._options.timeout_s)
        to = self._connections(loop).to
        replies = await asyncio.gather(*(connection.get("/models", limit_s) for connection in to.values()))
        found = {url: reply for url, reply in zip(to, replies, strict=True) if isinstance(reply, Fault)}
        return {url: fault for url, fault in found.items() if not fault.reached or fault.status in (401, 403)}

    def post(
        self, path: str, body: Mapping[str, Any], read: Callable[[bytes], A], wanted: str, at_root: bool = False
    ) -> A:
        """What ``read`` makes of the reply to ``body`` at ``path``; it raises ``DecodeError`` for no ``wanted``.

        Connection errors, timeouts, 408, 409, 429, 5xx and replies that cannot be read are tried again, with growing
        pauses, at least as long as the server asks for (up to two minutes); an error 500 at most twice, with another
        seed where one is given, which the reply then holds. The first attempt is given up sooner than the others (see
        ``Deadline``).

        Raises:
            ContextOverflow: the request is longer than the model's context.
            RequestRefused: this request is refused for good.
            ServerFailed, ServerSilent: every attempt failed, the last one with a reply or without.
            EngineError: every request would be (wrong key, address or model, an exhausted account), or no server has
                answered ``UNREACHABLE`` requests in a row.
            CancelledError: the run was stopped.
        """
        loop = event_loop()
        return cast(A, loop.run(self._post(_Request(path, dict(body), read, wanted, at_root), loop)))

    async def _post(self, request: _Request, loop: EventLoop) -> Answer:
        connections = self._connections(loop)
        attempt = stumbles = 0
        server: Server | None = None
        while True:
            server, outcome = await self._attempt(request, connections, apart_from=server)
            if not isinstance(outcome, Fault):
                self._unreachable = 0
                told = replace(outcome, usage=(outcome.usage or Usage()).sent(attempt + 1))
                if isinstance(told, TeacherReply) and stumbles and "seed" in request.body:
                    return replace(told, seed=request.body["seed"])
                return told
            if outcome.reached:
                self._unreachable = 0
            if outcome.final is not None:
                raise _after(attempt + 1, outcome.final)
            attempt += 1
            stumbles += outcome.suspect
            if attempt == self._options.attempts or stumbles > STUMBLES:
                raise _after(attempt, self._gave_up(server.url, attempt, outcome, connections.servers))
            if outcome.suspect and isinstance(request.body.get("seed"), int):
                request.body["seed"] = (request.body["seed"] + 1) % 2**31
            await self._sleep(pause_s(attempt - 1, outcome.asked_s))

    async def _attempt(
        self, request: _Request, connections: _Connections, apart_from: Server | None
    ) -> tuple[Server, Answer | Fault]:
        """One call, in its turn and in one of the places: the server that it went to, and what came of it."""
        deadline = self._deadlines[request.kind]
        is_first_of_several = apart_from is None and self._options.attempts > 1
        async with connections.servers.place(apart_from) as server:
            start_s = time.monotonic()
            limit_s = deadline.limit_s if is_first_of_several else self._options.timeout_s
            outcome = await self._call(connections.to[server.url], request, limit_s)
        if not isinstance(outcome, Fault):
            deadline.note(time.monotonic() - start_s)
        fault = outcome if isinstance(outcome, Fault) else None
        is_lost = server.note(reached=fault is None or fault.reached, refused=fault is not None and fault.refused)
        if is_lost and fault is not None and len(connections.to) > 1:
            _log.warning("%s is set aside for a while (%s)", server.url, fault.problem)
        return server, outcome

    async def _call(self, connection: Connection, request: _Request, limit_s: float) -> Answer | Fault:
        content = await connection.post(request.path, request.body, limit_s, request.at_root)
        if isinstance(content, Fault):
            return content
        try:
            answer = request.read(content)
            return self._keeper.clean(answer) if isinstance(answer, TeacherReply) else answer
        except NoAnswer as said:
            return connection.faults.fault_within(BAD_GATEWAY, said.error)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Fault(f"the reply is no {request.wanted} ({connection.faults.line(error)})")

    def _gave_up(self, url: str, attempts: int, last: Fault, servers: Servers) -> Exception:
        gave_up = f"gave up on {url} after {attempts} attempts; the last: {last.problem}"
        self._unreachable += not last.reached
        if self._unreachable < UNREACHABLE or not servers.gone:
            return ServerFailed(gave_up) if last.reached else ServerSilent(gave_up)
        before = UNREACHABLE - 1
        return EngineError(f"{gave_up}; so did the {before} requests before it: is the server still there?")

    def _connections(self, loop: EventLoop) -> _Connections:
        """Those of the loop that runs this; it may have been shut down meanwhile, and must not begin another."""
        if self._open is None or self._open.loop is not loop:
            self._open = _Connections(loop, self._key, self._keeper, self._options)
        return self._open


class ChatClient(Client):
    """A client for chat completions."""

    def __init__(self, options: ChatOptions, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        super().__init__(options, sleep)
        self._chat = options

    def complete(self, messages: Messages, **parameters: object) -> TeacherReply:
        """The model's reply to ``messages``, with further parameters of the chat completions call. See ``post``."""
        body = self._chat.request(messages, **parameters)
        return self.post("/chat/completions", body, read_completion, "chat completion")


def _after(requests: int, error: Exception) -> Exception:
    if isinstance(error, TeacherFailed):
        error.usage = Usage().sent(requests)
    return error


class _Connections:
    """What a client holds while an event loop lasts: the servers as they were last seen, and connections to each."""

    def __init__(self, loop: EventLoop, key: str, keeper: KeyKeeper, options: ServedOptions) -> None:
        self.loop = loop
        self.servers = Servers(options.endpoints, options.in_flight)
        key_option = options.api_key_file or options.api_key_env
        self.to: dict[str, Connection] = {}
        for server in self.servers.all:
            faults = FaultReader(keeper, server.url, key_option, options.model)
            self.to[server.url] = Connection(server.url, server.places, key, faults)
            loop.close_at_end(self.to[server.url].close)
