"""A plain client for OpenAI-compatible chat completions: one blocking call, retried; teacher and captioner share it."""

from __future__ import annotations

import asyncio
import email.utils
import functools
import importlib.metadata
import ipaddress
import os
import random
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.engines import EngineError
from transforms.engines.openai_completion import read_completion
from transforms.engines.protocols import TeacherFailed, TeacherReply

if TYPE_CHECKING:
    import httpx2
    from openai import APIStatusError

Messages = Sequence[Mapping[str, object]]

MAX_WAIT_S = 120.0
CHECK_TIMEOUT_S = 10.0
UNREACHABLE = 8
"""So many requests in a row that gave up without any reply mean that the server is gone."""

_RETRIED = (408, 409, 429)  # and every 5xx
_REFUSED = (401, 403, 404)  # key, permission, address or model: no other request will fare better
# Options that decide how the server is reached, and not what it answers.
_TRANSPORT = ("base_url", "api_key_env", "api_key_file", "timeout_s", "attempts")


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Which model to ask, where, and how.

    The key is read from the environment variable ``api_key_env``, or from ``api_key_file``; a server on this machine
    needs none. ``timeout_s`` bounds one call, from connecting to the last byte, ``attempts`` the calls of one request.
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
        require_text("model", self.model)
        public = not set(self.base_url) & set("@?#")
        require(public, "base_url must hold no credentials, query or fragment, for they would be printed", "***")
        address = urlsplit(self.base_url)
        whole = address.scheme in ("http", "https") and bool(address.hostname) and address.port != 0
        require(whole, "base_url must be an http(s) address such as http://localhost:8000/v1", self.base_url)
        # Many keys are identifiers too (hf_…), but hardly one is all capitals.
        named = re.fullmatch(r"[A-Z_][A-Z0-9_]*", self.api_key_env) is not None
        require(named, "api_key_env must be the name of an environment variable, in capitals, and not a key", "***")
        require(self.timeout_s > 0, "timeout_s must be positive", self.timeout_s)
        require(self.attempts >= 1, "attempts must be at least 1", self.attempts)
        if not (self.api_key_file or os.environ.get(self.api_key_env) or is_loopback(self.base_url)):
            raise ValueError(
                f"no key for {address.hostname}: set the environment variable {self.api_key_env} (to anything, if the "
                "server asks for none), or the option api_key_file"
            )

    def stamp_as(self, name: str) -> EngineStamp:
        """The stamp of an engine with these options.

        Its fingerprint leaves out how the server is reached and the client's version: they change no answer.
        """
        decisive = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _TRANSPORT}
        return EngineStamp(name, importlib.metadata.version("openai"), self.model, fingerprint([name, decisive]))

    def check(self) -> None:
        """Ask the server for its models, so that a wrong address or key shows before any work starts.

        Raises:
            EngineError: there is no key, the server does not answer, or it refuses the key.
        """
        ChatClient(self).check()

    def key(self) -> str:
        """The key, read anew; it is kept nowhere but in the client. Raises ``EngineError`` where there is none."""
        if self.api_key_file:
            try:
                key = Path(self.api_key_file).read_text("utf-8", errors="replace").strip()
            except OSError as error:
                raise EngineError(f"api_key_file {self.api_key_file!r}: {error.strerror}") from error
            source = f"api_key_file {self.api_key_file!r}"
        else:
            key = os.environ.get(self.api_key_env, "").strip()
            source = f"the environment variable {self.api_key_env}"
            if not key and is_loopback(self.base_url):
                return "none"
            if not key:
                raise EngineError(f"{source} is not set on this worker")
        if not re.fullmatch(r"[!-~]+", key):  # it could not be sent, and the error would quote it
            raise EngineError(f"{source} must hold the key and nothing else")
        return key


def is_loopback(url: str) -> bool:
    """Whether the host of ``url`` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class ChatClient:
    """A client for one server and model; safe to call from many threads."""

    def __init__(self, options: ChatOptions, sleep: Callable[[float], None] = time.sleep) -> None:
        from openai import AsyncOpenAI

        self._options = options
        self._key = options.key()
        self._sleep = sleep
        self._loop = _event_loop(os.getpid())
        self._unreachable = 0  # requests in a row
        self._counting = threading.Lock()
        # The library's own retries miss replies that are cut or not JSON, and its timeout starts anew with every byte.
        self._client = AsyncOpenAI(api_key=self._key, base_url=options.base_url, timeout=None, max_retries=0)

    def check(self) -> None:
        """See ``ChatOptions.check``. A server that has no list of models, or is busy, passes."""
        import httpx2
        from openai import APIConnectionError, APIStatusError

        limit_s = min(CHECK_TIMEOUT_S, self._options.timeout_s)
        try:
            self._reply(self._client.get("/models", cast_to=httpx2.Response), limit_s)
        except (APIConnectionError, TimeoutError) as error:
            raise EngineError(
                f"no answer from {self._options.base_url} ({error.__cause__ or f'waited {limit_s:g} s'}); "
                "start the server, or correct base_url"
            ) from error
        except APIStatusError as error:
            if error.status_code in (401, 403):
                raise self._refusal(error) from error

    def complete(self, messages: Messages, **parameters: object) -> TeacherReply:
        """The model's reply to ``messages``, with further parameters of the chat completions call.

        Connection errors, timeouts, 408, 409, 429, 5xx and replies that are no chat completion are tried again, with
        growing pauses, at least as long as the server asks for (up to two minutes).

        Raises:
            TeacherFailed: this request is refused for good, or every attempt failed.
            EngineError: every request would be (wrong key, address or model, an exhausted account), or the server has
                not answered ``UNREACHABLE`` requests in a row.
        """
        import httpx2
        from openai import APIConnectionError, APIStatusError

        options = self._options
        common = {"model": options.model, "temperature": options.temperature, "max_tokens": options.max_tokens}
        given = {name: value for name, value in {**common, **parameters}.items() if value is not None}
        body = {"messages": list(messages), **given, **options.extra_body}
        for attempt in range(options.attempts):
            reached, asked_s = True, 0.0
            try:
                call = self._client.post("/chat/completions", cast_to=httpx2.Response, body=body)
                reply = read_completion(self._reply(call, options.timeout_s))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                problem = f"the reply is no chat completion ({error})"
            except APIConnectionError as error:
                reached, problem = False, f"{error.message} ({error.__cause__ or 'no reply'})"
            except TimeoutError:
                reached, problem = False, f"no whole reply within {options.timeout_s:g} s"
            except APIStatusError as error:
                self._count(reached=True)
                if error.status_code in _REFUSED or _exhausted(error):
                    raise self._refusal(error) from error
                problem = self._problem(error)
                if error.status_code not in _RETRIED and error.status_code < 500:
                    raise TeacherFailed(problem) from error
                asked_s = retry_after_s(error.response.headers)
            else:
                self._count(reached=True)
                return reply
            if attempt + 1 < options.attempts:
                self._sleep(pause_s(attempt, asked_s))
        gave_up = f"gave up on {options.base_url} after {options.attempts} attempts; the last: {problem}"
        if self._count(reached) >= UNREACHABLE:
            raise EngineError(f"{gave_up}; so did the {UNREACHABLE - 1} requests before it: is the server still there?")
        raise TeacherFailed(gave_up)

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

    def _problem(self, error: APIStatusError) -> str:
        problem = f"HTTP {error.status_code}: {_said(error.body, error.message)}"
        if "logprobs" in problem:
            problem += "; for a model without log-probabilities set the option logprobs: false"
        return problem.replace(self._key, "***") if len(self._key) >= 8 else problem

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


def pause_s(attempt: int, asked_s: float) -> float:
    """Seconds to wait after the failed attempt number ``attempt`` (from 0): 0.5, 1, 2, … or what the server asks for.

    A random part of up to a quarter on top keeps workers that failed together from coming back together.
    """
    return min(MAX_WAIT_S, max(asked_s, 0.5 * 2.0**attempt)) * (1.0 + random.random() / 4.0)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds that ``retry-after-ms`` or ``Retry-After`` (seconds or a date) asks for; 0 where none does."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) * unit_s)
        except ValueError:
            continue
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _exhausted(error: APIStatusError) -> bool:
    """Whether the account has no credit left: a 429 that does not pass."""
    body = error.body
    return isinstance(body, dict) and "insufficient_quota" in (body.get("code"), body.get("type"))


def _said(body: object, message: str) -> str:
    """What the server says is wrong, on one line."""
    said = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(said or message).split())[:300]
