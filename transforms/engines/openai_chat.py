"""A plain client for OpenAI-compatible chat completions: one blocking call, retried; teacher and captioner share it."""

from __future__ import annotations

import asyncio
import functools
import importlib.metadata
import ipaddress
import logging
import os
import re
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from schemas.visible import one_line
from transforms.engines import EngineError
from transforms.engines.api_key import HIDDEN, KeyKeeper, names_a_file, read_key, refuse_secrets
from transforms.engines.openai_completion import read_completion
from transforms.engines.protocols import TeacherFailed, TeacherReply
from transforms.engines.retry import pause_s, retry_after_s

if TYPE_CHECKING:
    import httpx2
    from openai import APIStatusError

Messages = Sequence[Mapping[str, object]]

CHECK_TIMEOUT_S = 10.0
UNREACHABLE = 8
"""So many requests in a row that gave up without any reply mean that the server is gone."""

_RETRIED = (408, 409, 429)  # and every 5xx
_REFUSED = (401, 403, 404)  # key, permission, address or model: no other request will fare better
# Options that decide how the server is reached, and not what it answers.
_TRANSPORT = ("base_url", "api_key_env", "api_key_file", "timeout_s", "attempts")
_LIBRARIES = ("openai", "httpx2", "httpcore2")


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Which model to ask, where, and how.

    The key is read from the environment variable ``api_key_env``, or from ``api_key_file``; a server on this machine
    needs none. Options are written to the manifest: one that holds a key is refused, and never printed. ``timeout_s``
    bounds one call, from connecting to the last byte, ``attempts`` the calls of one request.
    ``temperature`` and ``max_tokens`` are not sent where null; ``extra_body`` is merged into every request, for what a
    server offers beyond the common surface, such as ``{chat_template_kwargs: {enable_thinking: false}}``.
    """

    requires: ClassVar[tuple[str, ...]] = ("openai",)
    extra: ClassVar[str] = "teacher"

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    api_key_file: str = ""
    timeout_s: float = 120.0
    attempts: int = 5
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

    def stamp_as(self, name: str, apart_from: Collection[str] = ()) -> EngineStamp:
        """The stamp of an engine with these options.

        Its fingerprint leaves out how the server is reached and the client's version, which change no answer, and the
        options ``apart_from``.
        """
        left_out = {*_TRANSPORT, *apart_from}
        decisive = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left_out}
        return EngineStamp(name, importlib.metadata.version("openai"), self.model, fingerprint([name, decisive]))

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


@dataclass(frozen=True, slots=True)
class _Fault:
    """One call without a usable reply: what was wrong, and the error to end with where another call would not help."""

    problem: str
    reached: bool = True
    asked_s: float = 0.0
    final: Exception | None = None


class ChatClient:
    """A client for one server and model; safe to call from many threads.

    Servers quote keys, in errors and in replies. What leaves this class is therefore cleaned of the key, and its errors
    are raised outside of ``except`` blocks: a traceback would show the library's error, which quotes the server.
    """

    def __init__(self, options: ChatOptions, sleep: Callable[[float], None] = time.sleep) -> None:
        from openai import AsyncOpenAI

        for library in _LIBRARIES:
            logging.getLogger(library).setLevel(logging.WARNING)  # below that they log headers
        self._options = options
        key = options.key()
        self._keeper = KeyKeeper(key)
        self._sleep = sleep
        self._loop = _event_loop(os.getpid())
        self._unreachable = 0  # requests in a row
        self._counting = threading.Lock()
        # The library's own retries miss replies that are cut or not JSON, and its timeout starts anew with every byte.
        self._client = AsyncOpenAI(api_key=key, base_url=options.base_url, timeout=None, max_retries=0)

    def check(self) -> None:
        """See ``ChatOptions.check``. A server that has no list of models, or is busy, passes."""
        if (error := self._checked()) is not None:
            raise error

    def _checked(self) -> EngineError | None:
        import httpx2
        from openai import APIConnectionError, APIStatusError

        limit_s = min(CHECK_TIMEOUT_S, self._options.timeout_s)
        try:
            self._reply(self._client.get("/models", cast_to=httpx2.Response), limit_s)
        except (APIConnectionError, TimeoutError) as error:
            why = self._line(error.__cause__ or f"waited {limit_s:g} s")
            return EngineError(
                f"no answer from {self._options.base_url} ({why}); start the server, or correct base_url"
            )
        except APIStatusError as error:
            return self._refusal(error) if error.status_code in (401, 403) else None
        return None

    def complete(self, messages: Messages, **parameters: object) -> TeacherReply:
        """The model's reply to ``messages``, with further parameters of the chat completions call.

        Connection errors, timeouts, 408, 409, 429, 5xx and replies that are no chat completion are tried again, with
        growing pauses, at least as long as the server asks for (up to two minutes).

        Raises:
            TeacherFailed: this request is refused for good (``permanent``), or every attempt failed.
            EngineError: every request would be (wrong key, address or model, an exhausted account), or the server has
                not answered ``UNREACHABLE`` requests in a row.
        """
        options = self._options
        common = {"model": options.model, "temperature": options.temperature, "max_tokens": options.max_tokens}
        given = {name: value for name, value in {**common, **parameters}.items() if value is not None}
        body = {"messages": list(messages), **given, **options.extra_body}
        fault = _Fault("")
        for attempt in range(options.attempts):
            outcome = self._attempt(body)
            if isinstance(outcome, TeacherReply):
                self._count(reached=True)
                return outcome
            fault = outcome
            if fault.reached:
                self._count(reached=True)
            if fault.final is not None:
                raise fault.final
            if attempt + 1 < options.attempts:
                self._sleep(pause_s(attempt, fault.asked_s))
        gave_up = f"gave up on {options.base_url} after {options.attempts} attempts; the last: {fault.problem}"
        if self._count(fault.reached) >= UNREACHABLE:
            raise EngineError(f"{gave_up}; so did the {UNREACHABLE - 1} requests before it: is the server still there?")
        raise TeacherFailed(gave_up)

    def _attempt(self, body: Mapping[str, object]) -> TeacherReply | _Fault:
        import httpx2
        from openai import APIConnectionError, APIStatusError

        limit_s = self._options.timeout_s
        try:
            call = self._client.post("/chat/completions", cast_to=httpx2.Response, body=body)
            return self._keeper.clean(read_completion(self._reply(call, limit_s)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _Fault(f"the reply is no chat completion ({self._line(error)})")
        except APIConnectionError as error:
            return _Fault(f"{error.message} ({self._line(error.__cause__ or 'no reply')})", reached=False)
        except TimeoutError:
            return _Fault(f"no whole reply within {limit_s:g} s", reached=False)
        except APIStatusError as error:
            return self._fault(error)

    def _reply(self, call: Awaitable[httpx2.Response], limit_s: float) -> bytes:
        """The body of the reply, whole. Raises ``TimeoutError`` unless it is there within ``limit_s`` seconds."""

        async def within_limit() -> bytes:
            async with asyncio.timeout(limit_s):
                return (await call).content

        return asyncio.run_coroutine_threadsafe(within_limit(), self._loop).result()

    def _count(self, reached: bool) -> int:
        """Take down how a request ended; how many in a row have not reached the server."""
        with self._counting:
            self._unreachable = 0 if reached else self._unreachable + 1
            return self._unreachable

    def _fault(self, error: APIStatusError) -> _Fault:
        problem = self._problem(error)
        if error.status_code in _REFUSED or _exhausted(error):
            return _Fault(problem, final=self._refusal(error))
        if error.status_code not in _RETRIED and error.status_code < 500:
            return _Fault(problem, final=TeacherFailed(problem, permanent=True))
        return _Fault(problem, asked_s=retry_after_s(error.response.headers))

    def _line(self, said: object) -> str:
        """What a server or a library says, on one line of at most 300 characters, without the key."""
        return one_line(self._keeper.hide(str(said)))[:300]  # hidden first: what is left of a cut key is still a secret

    def _problem(self, error: APIStatusError) -> str:
        said = error.body.get("message") if isinstance(error.body, dict) else None
        problem = f"HTTP {error.status_code}: {self._line(said or error.message)}"
        if "logprobs" in problem:
            problem += "; for a model without log-probabilities set the option confidence: [sampling]"
        return problem

    def _refusal(self, error: APIStatusError) -> EngineError:
        options = self._options
        fix = f"check {options.api_key_file or options.api_key_env}"
        if error.status_code == 404:
            fix = f"check base_url (it often ends in /v1) and model ({options.model})"
        elif _exhausted(error):
            fix = f"top up the account of {options.api_key_file or options.api_key_env}"
        return EngineError(f"{options.base_url}: {self._problem(error)}; {fix}")


@functools.cache
def _event_loop(pid: int) -> asyncio.AbstractEventLoop:
    """A loop that runs in a thread of this process, for all its clients; a forked process does not inherit threads.

    Calls go through it because only a cancelled task ends a reply that trickles in: sockets time out between bytes.
    """
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name=f"chat-{pid}", daemon=True).start()
    return loop


def _exhausted(error: APIStatusError) -> bool:
    """Whether the account has no credit left: a 429 that does not pass."""
    body = error.body
    return isinstance(body, dict) and "insufficient_quota" in (body.get("code"), body.get("type"))
