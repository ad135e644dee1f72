"""What is read of a chat completion, whichever server sent it."""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any

import msgspec

from schemas.check import read_json
from schemas.token import Token
from transforms.engines.openai.usage import read_usage
from transforms.protocols.teacher import TeacherReply

# Decoding a reply by these types is what finds HTML, cut JSON and missing fields, all of which servers and proxies send
# with status 200.

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how SentencePiece shows a token that is a byte, such as a line feed
_NULL = msgspec.Raw(b"null")
_NOT_REPORTED = -9999.0
# Why a reply ended, in the words of OpenAI, text-generation-inference, Anthropic, Mistral, Gemini and Zhipu.
_WHOLE = ("", "stop", "eos", "eos_token", "stop_sequence", "end_turn", "complete")
_CUT = ("length", "max_tokens", "model_length")
_FILTERED = ("content_filter", "refusal", "safety", "recitation", "prohibited_content", "blocklist", "sensitive")


class NoAnswer(Exception):
    """A reply that is well-formed and says that there is no answer; ``error`` is what the server says of it."""

    def __init__(self, error: object) -> None:
        super().__init__(str(error))
        self.error = error


class _Alternative(msgspec.Struct):
    token: str
    logprob: float | None
    bytes: list[Annotated[int, msgspec.Meta(ge=0, le=255)]] | None = None


class _TokenLogprob(_Alternative):
    top_logprobs: list[_Alternative] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_TokenLogprob] | None = None


class _Part(msgspec.Struct):
    """A piece of a message: a text, a refusal, or thoughts, which are pieces themselves."""

    type: str = "text"
    text: str | None = None
    refusal: str | None = None
    thinking: str | list[_Part] | None = None


class _Message(msgspec.Struct):
    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None
    error: Any = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: Any = None
    usage: msgspec.Raw = _NULL  # read apart: a server that counts badly has answered all the same
    timings: msgspec.Raw = _NULL


def read_completion(body: bytes) -> TeacherReply:
    """The first choice of a chat completion. Thoughts that the server split off are put back before the text.

    Raises:
        NoAnswer: the server says that something went wrong, or stopped in the middle of the reply.
        msgspec.DecodeError, UnicodeDecodeError: ``body`` is not a chat completion.
    """
    completion, choice = _first_choice(body)
    message = choice.message
    parts = message.content if isinstance(message.content, list) else [_Part(text=message.content)]
    said = "".join(part.text or "" for part in parts if part.thinking is None)
    refusal = message.refusal or "".join(part.refusal or "" for part in parts)
    thoughts = message.reasoning_content or message.reasoning or "".join(map(_thoughts, parts))
    text = said or refusal
    listed = (choice.logprobs and choice.logprobs.content) or []
    ended = (choice.finish_reason or "").lower()
    return TeacherReply(
        text=f"<think>{thoughts}</think>\n{text}" if thoughts else text,
        tokens=tuple(
            Token(*_bytes_and_logprob(token), tuple(map(_bytes_and_logprob, token.top_logprobs or ())))
            for token in listed
        ),
        truncated=ended in _CUT,
        refused=bool(refusal) or ended in _FILTERED,
        usage=read_usage(_any(completion.usage), _any(completion.timings)),
    )


def count_choices(body: bytes) -> int:
    """How many replies a chat completion holds; raises what ``read_completion`` does."""
    return len(_first_choice(body)[0].choices or ())


def _first_choice(body: bytes) -> tuple[_Completion, _Choice]:
    try:
        completion = _decoded(body)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error
    if not completion.choices:
        if completion.error:
            raise NoAnswer(completion.error)
        raise msgspec.ValidationError("it has no choices")
    choice = completion.choices[0]
    if choice.error or (choice.finish_reason or "").lower() not in (*_WHOLE, *_CUT, *_FILTERED):
        raise NoAnswer(choice.error or f"the reply ended with finish_reason {choice.finish_reason!r}")
    return completion, choice


def _decoded(body: bytes) -> _Completion:
    try:
        return read_json(body, _Completion)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        # Servers in Python write what is no JSON, NaN and Infinity, where there is no number.
        try:
            plain = msgspec.json.encode(json.loads(body, parse_constant=lambda _: None))
        except (ValueError, msgspec.EncodeError):
            raise error from None
        return read_json(plain, _Completion)


def _thoughts(part: _Part) -> str:
    if isinstance(part.thinking, list):
        return "".join(each.text or "" for each in part.thinking)
    return part.thinking or ""


def _any(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:  # such as a number beyond all bounds
        return None


def _bytes_and_logprob(token: _Alternative) -> tuple[bytes, float]:
    told = token.logprob
    logprob = told if told is not None and math.isfinite(told) else _NOT_REPORTED
    if token.bytes is not None:
        return bytes(token.bytes), logprob
    if byte := _BYTE.fullmatch(token.token):
        return bytes.fromhex(byte[1]), logprob
    return token.token.replace("\u2581", " ").encode("utf-8", "surrogatepass"), logprob
