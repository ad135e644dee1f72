"""A plain client for OpenAI-compatible chat completions: one blocking call, retried; teacher and captioner share it."""

from __future__ import annotations

import email.utils
import importlib.metadata
import ipaddress
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

import msgspec

from schemas.check import require, require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.engines import EngineError
from transforms.engines.protocols import TeacherFailed, TeacherReply, Token

Messages = Sequence[Mapping[str, object]]

MAX_WAIT_S = 120.0
_RETRIED = (408, 409, 429)  # and every 5xx
# Options that decide how the server is reached, and not what it answers.
_TRANSPORT = ("base_url", "api_key_env", "api_key_file", "timeout_s", "attempts")


@dataclass(frozen=True, kw_only=True)
class ChatOptions:
    """Which model to ask, where, and how.

    The key is read from the environment variable ``api_key_env``, or from ``api_key_file``; a server on this machine
    needs none. ``timeout_s`` bounds the silence before and within a reply, ``attempts`` the calls of one request.
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
        address = urlsplit(self.base_url)
        whole = address.scheme in ("http", "https") and bool(address.hostname)
        require(whole, "base_url must be an http(s) address such as http://localhost:8000/v1", self.base_url)
        require("@" not in address.netloc, "base_url must hold no credentials, for they would be printed", "***")
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

    def key(self) -> str:
        """The key, read anew; it is kept nowhere but in the client. Raises ``EngineError`` where there is none."""
        if self.api_key_file:
            try:
                return Path(self.api_key_file).read_text("utf-8").strip()
            except OSError as error:
                raise EngineError(f"api_key_file {self.api_key_file!r}: {error.strerror}") from error
        key = os.environ.get(self.api_key_env, "")
        if not key and not is_loopback(self.base_url):
            raise EngineError(f"the environment variable {self.api_key_env} is not set on this worker")
        return key or "none"


def is_loopback(url: str) -> bool:
    """Whether the host of ``url`` is this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


# The part of a reply that is read. Decoding it by these types is what finds HTML, cut JSON and missing fields, all of
# which servers and proxies send with status 200.


class _Alternative(msgspec.Struct):
    token: str
    logprob: float | None
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None


class _TokenLogprob(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_TokenLogprob] | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: _Usage | None = None


class ChatClient:
    """A client for one server and model; safe to call from many threads."""

    def __init__(self, options: ChatOptions, sleep: Callable[[float], None] = time.sleep) -> None:
        from openai import OpenAI

        self._options = options
        self._key = options.key()
        self._sleep = sleep
        self._client = OpenAI(
            api_key=self._key, base_url=options.base_url, timeout=options.timeout_s, max_retries=0
        )  # the library's own retries miss replies that are cut or not JSON

    def complete(self, messages: Messages, **parameters: object) -> TeacherReply:
        """The model's reply to ``messages``, with further parameters of the chat completions call.

        Connection errors, timeouts, 408, 409, 429, 5xx and replies that are no chat completion are tried again, with
        growing pauses, at least as long as the server asks for (up to two minutes).

        Raises:
            TeacherFailed: the request is refused for good, or every attempt failed.
        """
        from openai import APIConnectionError, APIStatusError

        options = self._options
        common = {"model": options.model, "temperature": options.temperature, "max_tokens": options.max_tokens}
        given = {name: value for name, value in {**common, **parameters}.items() if value is not None}
        body = {"messages": list(messages), **given, **options.extra_body}
        problem = ""
        for attempt in range(options.attempts):
            asked_s = 0.0
            try:
                return read_completion(self._post(body))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                problem = f"the reply is no chat completion ({error})"
            except APIConnectionError as error:
                problem = f"{error.message} ({error.__cause__ or 'no reply'})"
            except APIStatusError as error:
                problem = self._without_key(f"HTTP {error.status_code}: {_said(error.body, error.message)}")
                if not _may_pass(error.status_code, error.body):
                    raise TeacherFailed(problem + self._hint(error.status_code, problem)) from error
                asked_s = retry_after_s(error.response.headers)
            if attempt + 1 < options.attempts:
                self._sleep(pause_s(attempt, asked_s))
        raise TeacherFailed(f"gave up on {options.base_url} after {options.attempts} attempts; the last: {problem}")

    def _post(self, body: dict[str, object]) -> bytes:
        import httpx2

        return self._client.post("/chat/completions", cast_to=httpx2.Response, body=body).content

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if len(self._key) >= 8 else text

    def _hint(self, status: int, problem: str) -> str:
        if status in (401, 403):
            return f"; check {self._options.api_key_file or self._options.api_key_env}"
        if status == 404:
            return f"; check base_url ({self._options.base_url}, it often ends in /v1) and model"
        if "logprobs" in problem:
            return "; for a model without log-probabilities set the option logprobs: false"
        return ""


def read_completion(body: bytes) -> TeacherReply:
    """The first choice of a chat completion. Thoughts that the server split off are put back before the text.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: ``body`` is not a chat completion.
    """
    completion = msgspec.json.decode(body, type=_Completion)
    choice, usage = completion.choices[0], completion.usage or _Usage()
    message = choice.message
    thoughts = message.reasoning_content or message.reasoning
    text = message.content or message.refusal or ""
    listed = (choice.logprobs and choice.logprobs.content) or []
    return TeacherReply(
        text=f"<think>{thoughts}</think>\n{text}" if thoughts else text,
        tokens=tuple(
            Token(*_bytes_and_logprob(token), tuple(map(_bytes_and_logprob, token.top_logprobs or ())))
            for token in listed
        ),
        truncated=choice.finish_reason == "length",
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _bytes_and_logprob(token: _Alternative) -> tuple[bytes, float]:
    logprob = -9999.0 if token.logprob is None else token.logprob
    if token.bytes is not None:
        return bytes(token.bytes), logprob
    return token.token.replace("\u2581", " ").encode("utf-8", "surrogatepass"), logprob


def pause_s(attempt: int, asked_s: float) -> float:
    """Seconds to wait after the failed attempt number ``attempt`` (from 0): 0.5, 1, 2, … or what the server asks for.

    A random part of up to a quarter on top keeps workers that failed together from coming back together.
    """
    return min(MAX_WAIT_S, max(asked_s, 0.5 * 2.0**attempt)) * (1.0 + random.random() / 4.0)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds that ``retry-after-ms`` or ``Retry-After`` (seconds or a date) asks for; 0 where it is absent."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            return max(0.0, float(value) * unit_s)
        except ValueError:
            date = email.utils.parsedate_tz(value)
            if date is not None:
                return max(0.0, email.utils.mktime_tz(date) - time.time())
    return 0.0


def _may_pass(status: int, body: object) -> bool:
    """Whether the same request may succeed later; an exhausted account is a 429 that does not pass."""
    exhausted = isinstance(body, dict) and body.get("code") == "insufficient_quota"
    return (status in _RETRIED or status >= 500) and not exhausted


def _said(body: object, message: str) -> str:
    """What the server says is wrong, on one line."""
    said = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(said or message).split())[:300]
