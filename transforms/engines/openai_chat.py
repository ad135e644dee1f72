"""A plain client for OpenAI-compatible chat completions: one blocking call, retried; teacher and captioner share it."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.engines import EngineError, version_of
from transforms.engines.api_key import HIDDEN, KeyKeeper, names_a_file, read_key, refuse_secrets
from transforms.engines.event_loop import EventLoop, event_loop
from transforms.engines.openai_completion import read_completion
from transforms.engines.openai_faults import Fault, FaultReader
from transforms.engines.pacing import Pace
from transforms.engines.protocols import TeacherFailed, TeacherReply
from transforms.engines.retry import pause_s

if TYPE_CHECKING:
    from openai import AsyncOpenAI

Messages = Sequence[Mapping[str, object]]

CHECK_TIMEOUT_S = 10.0
UNREACHABLE = 8
"""So many requests in a row that gave up without any reply mean that the server is gone."""

STUMBLES = 2
"""So many times a request is tried again that the server answered with an error 500, which may be its own fault."""

_IDLE_S = 4.0  # an idle connection is closed before the server does so, commonly after 5 s, while we send
# Options that decide how the server is reached, and not what it answers.
_TRANSPORT = ("base_url", "api_key_env", "api_key_file", "timeout_s", "attempts", "in_flight")
_LIBRARIES = ("openai", "httpx2", "httpcore2", "aiohttp")


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Which model to ask, where, and how.

    The key is read from the environment variable ``api_key_env``, or from ``api_key_file``; a server on this machine
    needs none. Options are written to the manifest: one that holds a key is refused, and never printed. ``timeout_s``
    bounds one call, from connecting to the last byte, ``attempts`` the calls of one request. ``in_flight`` bounds the
    calls that are under way at once in one process: the server is busiest at 1.25 times as many as it works on at once.
    ``temperature`` and ``max_tokens`` are not sent where null; ``extra_body`` is merged into every request, for what a
    server offers beyond the common surface, such as ``{chat_template_kwargs: {enable_thinking: false}}``.
    ``revision`` is not sent: change it when other weights are served under the same name, so that replies of the old
    ones are not taken for theirs.
    """

    requires: ClassVar[tuple[str, ...]] = ("openai", "aiohttp")
    extra: ClassVar[str] = "teacher"

    model: str
    revision: str = ""
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    api_key_file: str = ""
    timeout_s: float = 120.0
    attempts: int = 6
    in_flight: int = 64
    temperature: float | None = 0.0
    max_tokens: int | None = 4096
    extra_body: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        # Many keys are identifiers too (hf_…), but hardly one is all capitals.
        named = re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env) is not None
        require(named, "api_key_env must be the name of an environment variable, in capitals, and not a key", HIDDEN)
        is_path = not self.api_key_file or names_a_file(self.api_key_file)
        require(is_path, "api_key_file must be the path of a file, such as ./key, and not a key", HIDDEN)
        public = not set(self.base_url) & set("@?#")
        require(public, "base_url must hold no credentials, query or fragment, for they would be printed", HIDDEN)
        whole = _is_address(self.base_url)
        require(whole, "base_url must be an http(s) address such as http://localhost:8000/v1", HIDDEN)
        at_hand = not self.api_key_file or Path(self.api_key_file).is_file()  # it may lie on the workers only
        key = read_key(self.api_key_env, self.api_key_file) if at_hand else ""
        refuse_secrets({option.name: getattr(self, option.name) for option in fields(self)}, key)
        require_text("model", self.model)
        require(self.timeout_s > 0, "timeout_s must be positive", self.timeout_s)
        require(self.attempts >= 1, "attempts must be at least 1", self.attempts)
        require(self.in_flight >= 1, "in_flight must be at least 1", self.in_flight)

    @property
    def at_once(self) -> int:
        """See ``Waits``; a quarter more than may be in flight, for requests that wait to be tried again."""
        return self.in_flight + self.in_flight // 4

    def stamp_as(self, name: str, apart_from: Collection[str] = ()) -> EngineStamp:
        """The stamp of an engine with these options.

        Its fingerprint leaves out how the server is reached and the client's version, which change no answer, and the
        options ``apart_from``.
        """
        left_out = {*_TRANSPORT, *apart_from}
        decisive = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        return EngineStamp(name, version_of("openai"), self.model, fingerprint([name, decisive]))

    def check(self) -> None:
        """Ask the server for its models, so that a wrong address or key shows before any work starts.

        Raises:
            EngineError: there is no key, the server does not answer, or it refuses the key.
        """
        ChatClient(self).check()

    def key(self) -> str:
        """The key, read anew; it is kept nowhere but in the client. Raises ``EngineError`` where there is none."""
        key = read_key(self.api_key_env, self.api_key_file)
        if not key and not is_loopback(self.base_url):
            raise EngineError(
                f"no key for {urlsplit(self.base_url).hostname}: set the environment variable {self.api_key_env} (to "
                "anything, if the server asks for none), or the option api_key_file"
            )
        return key or "none"


def _is_address(url: str) -> bool:
    try:
        address = urlsplit(url)
        return address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
    except ValueError:  # which quotes the port
        return False


def is_loopback(url: str) -> bool:
    """Whether the host of ``url`` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ChatClient:
    """A client for one server and model; safe to call from many threads.

    At most ``in_flight`` calls are under way in this process, sent no faster than the server takes them (see
    ``Pace``). A request that waits to be tried again leaves its place to others.

    Servers quote keys, in errors and in replies. What leaves this class is therefore cleaned of the key, and its errors
    are raised outside of ``except`` blocks: a traceback would show the library's error, which quotes the server.
    """

    def __init__(self, options: ChatOptions, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        for library in _LIBRARIES:
            logging.getLogger(library).setLevel(logging.WARNING)  # below that they log headers
        self._options = options
        self._key = options.key()
        self._keeper = KeyKeeper(self._key)
        self._faults = FaultReader(
            self._keeper, options.base_url, options.api_key_file or options.api_key_env, options.model
        )
        self._sleep = sleep
        # All that follows changes in the event loop only.
        self._unreachable = 0  # requests in a row
        self._pace = Pace()
        self._open: _Connections | None = None

    def check(self) -> None:
        """See ``ChatOptions.check``. A server that has no list of models, or is busy, passes."""
        if (error := event_loop().run(self._checked())) is not None:
            raise error

    async def _checked(self) -> EngineError | None:
        import httpx2
        from openai import APIConnectionError, APIStatusError

        limit_s = min(CHECK_TIMEOUT_S, self._options.timeout_s)
        try:
            async with asyncio.timeout(limit_s):
                await self._connections().client.get("/models", cast_to=httpx2.Response)
        except (APIConnectionError, TimeoutError) as error:
            waited = isinstance(error, TimeoutError)
            why = f"waited {limit_s:g} s" if waited else self._faults.line(error.__cause__ or "no reply")
            return EngineError(
                f"no answer from {self._options.base_url} ({why}); start the server, or correct base_url"
            )
        except APIStatusError as error:
            return self._faults.refusal(error) if error.status_code in (401, 403) else None
        return None

    def complete(self, messages: Messages, **parameters: object) -> TeacherReply:
        """The model's reply to ``messages``, with further parameters of the chat completions call.

        Connection errors, timeouts, 408, 409, 429, 5xx and replies that are no chat completion are tried again, with
        growing pauses, at least as long as the server asks for (up to two minutes); an error 500 at most twice, with
        another seed where one is given.

        Raises:
            TeacherFailed: this request is refused for good (``permanent``), or every attempt failed.
            EngineError: every request would be (wrong key, address or model, an exhausted account), or the server has
                not answered ``UNREACHABLE`` requests in a row.
            CancelledError: the run was stopped.
        """
        options = self._options
        common = {"model": options.model, "temperature": options.temperature, "max_tokens": options.max_tokens}
        given = {name: value for name, value in {**common, **parameters}.items() if value is not None}
        return event_loop().run(self._complete({"messages": list(messages), **given, **options.extra_body}))

    async def _complete(self, body: dict[str, Any]) -> TeacherReply:
        attempt = stumbles = 0
        while True:
            outcome = await self._attempt(body)
            if isinstance(outcome, TeacherReply):
                self._unreachable = 0
                return outcome
            if outcome.reached:
                self._unreachable = 0
            if outcome.final is not None:
                raise outcome.final
            attempt += 1
            stumbles += outcome.suspect
            if attempt == self._options.attempts or stumbles > STUMBLES:
                raise self._gave_up(attempt, outcome)
            if outcome.suspect and isinstance(body.get("seed"), int):
                body["seed"] = (body["seed"] + 1) % 2**31
            await self._sleep(pause_s(attempt - 1, outcome.asked_s))

    async def _attempt(self, body: Mapping[str, object]) -> TeacherReply | Fault:
        """One call, in its turn and in one of the places."""
        connections = self._connections()
        async with connections.places:
            async with connections.turn:
                while wait_s := self._pace.wait_s():
                    await asyncio.sleep(wait_s)
            outcome = await self._call(connections.client, body)
        self._pace.note(refused=isinstance(outcome, Fault) and outcome.refused)
        return outcome

    async def _call(self, client: AsyncOpenAI, body: Mapping[str, object]) -> TeacherReply | Fault:
        import httpx2
        from openai import APIConnectionError, APIStatusError

        limit_s = self._options.timeout_s
        try:
            async with asyncio.timeout(limit_s):  # the library's own starts anew with every byte
                reply = await client.post("/chat/completions", cast_to=httpx2.Response, body=body)
            return self._keeper.clean(read_completion(reply.content))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Fault(f"the reply is no chat completion ({self._faults.line(error)})")
        except APIConnectionError as error:
            cause = self._faults.line(error.__cause__ or "no reply")
            return Fault(f"{error.message} ({cause})", reached=False)
        except TimeoutError:
            return Fault(f"no whole reply within {limit_s:g} s", reached=False)
        except APIStatusError as error:
            return self._faults.fault(error)

    def _gave_up(self, attempts: int, last: Fault) -> Exception:
        gave_up = f"gave up on {self._options.base_url} after {attempts} attempts; the last: {last.problem}"
        self._unreachable += not last.reached
        if self._unreachable < UNREACHABLE:
            return TeacherFailed(gave_up)
        before = UNREACHABLE - 1
        return EngineError(f"{gave_up}; so did the {before} requests before it: is the server still there?")

    def _connections(self) -> _Connections:
        """Those of the loop that runs this."""
        loop = event_loop()
        if self._open is None or self._open.loop is not loop:
            self._open = _Connections(loop, self._key, self._options)
            loop.close_at_end(self._open.client.close)
        return self._open


class _Connections:
    """What a client holds while an event loop lasts: connections, places for calls, and whose turn it is to send."""

    def __init__(self, loop: EventLoop, key: str, options: ChatOptions) -> None:
        import httpx2
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self.loop = loop
        limits = httpx2.Limits(max_connections=options.in_flight + 1, keepalive_expiry=_IDLE_S)
        # The library's own retries miss replies that are cut or not JSON, and would keep their place while they wait.
        self.client = AsyncOpenAI(
            api_key=key,
            base_url=options.base_url,
            timeout=None,
            max_retries=0,
            http_client=DefaultAioHttpClient(limits=limits, timeout=None),
        )
        self.places = asyncio.Semaphore(options.in_flight)
        self.turn = asyncio.Lock()
