"""What is read of a chat completion, whichever server sent it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from schemas.token import Token
from transforms.engines.openai.usage import read_usage
from transforms.protocols.teacher import TeacherReply

# Decoding a reply by these types is what finds HTML, cut JSON and missing fields, all of which servers and proxies send
# with status 200.

_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # how SentencePiece shows a token that is a byte, such as a line feed
_NULL = msgspec.Raw(b"null")


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


class _Completion(msgspec.Struct):
    choices: Annotated[list[_Choice], msgspec.Meta(min_length=1)]
    usage: msgspec.Raw = _NULL  # read apart: a server that counts badly has answered all the same
    timings: msgspec.Raw = _NULL


def read_completion(body: bytes) -> TeacherReply:
    """The first choice of a chat completion. Thoughts that the server split off are put back before the text.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: ``body`` is not a chat completion.
    """
    try:
        completion = msgspec.json.decode(body, type=_Completion)
    except RecursionError as error:
        raise msgspec.DecodeError("nested too deeply") from error
    choice = completion.choices[0]
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
        refused=bool(message.refusal) or choice.finish_reason == "content_filter",
        usage=read_usage(_any(completion.usage), _any(completion.timings)),
    )


def _any(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:  # such as a number beyond all bounds
        return None


def _bytes_and_logprob(token: _Alternative) -> tuple[bytes, float]:
    logprob = -9999.0 if token.logprob is None else token.logprob
    if token.bytes is not None:
        return bytes(token.bytes), logprob
    if byte := _BYTE.fullmatch(token.token):
        return bytes.fromhex(byte[1]), logprob
    return token.token.replace("\u2581", " ").encode("utf-8", "surrogatepass"), logprob
