"""Log-probabilities of chosen tokens from SGLang: of a reply's decision, by a second call to its own endpoint.

Its chat completions take no ids of tokens to tell of; ``/generate``, at the server's root, takes ``token_ids_logprob``
(SGLang, srt/managers/io_struct.py). So the reply is asked for with the ids of prompt and reply
(``return_prompt_token_ids``, ``return_meta_info``), and then one token after all that came before the decision, which
the server has in its cache. At temperature 1 what it tells is the model's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from prompts.margin import SENTINEL, decision_place, tells_all
from schemas.check import read_json
from schemas.token import Token
from schemas.usage import Usage
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.completion import read_completion
from transforms.engines.openai.usage import read_usage
from transforms.protocols.teacher import TeacherFailed, TeacherReply

GENERATE = "/generate"
WITH_IDS = {"return_prompt_token_ids": True, "return_meta_info": True}
"""Parameters of a chat completions call by which the reply holds the ids of its tokens and of the prompt's."""

_Logprob = tuple[float | None, int, str | None]  # with the token's id and text


class _ChatMeta(msgspec.Struct):
    output_token_logprobs: list[_Logprob] | None = None


class _Choice(msgspec.Struct):
    prompt_token_ids: list[int] | None = None
    meta_info: _ChatMeta | None = None


class _Chat(msgspec.Struct):
    choices: list[_Choice]


class _Meta(msgspec.Struct):
    output_token_ids_logprobs: list[list[_Logprob] | None]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class _Generated(msgspec.Struct):
    meta_info: _Meta


@dataclass(frozen=True, slots=True)
class Ids:
    """The ids of the tokens of a prompt, and of the reply to it; empty where the server does not tell them."""

    prompt: tuple[int, ...] = ()
    reply: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """The chosen tokens at one place, as (bytes, log-probability), and what the call used."""

    alternatives: tuple[tuple[bytes, float], ...]
    usage: Usage | None = None


def ask_exactly(client: ChatClient, body: Mapping[str, Any], chosen: Sequence[int]) -> TeacherReply:
    """The reply to a chat completions call, whose decision between yes and no tells all ``chosen`` tokens.

    Without a decision, or where the server refuses the second call, it is the reply alone.

    Raises:
        TeacherFailed, EngineError: as ``Client.post``; what both calls used is told of the second as well.
    """
    found = Ids()

    def read(content: bytes) -> TeacherReply:
        nonlocal found  # the client keeps and cleans replies alone
        found = read_ids(content)
        return read_completion(content)

    reply = client.post("/chat/completions", {**body, **WITH_IDS}, read, "chat completion")
    place = decision_place(reply.tokens)
    if place is None or not found.prompt or len(found.reply) != len(reply.tokens):
        return reply
    after = (*found.prompt, *found.reply[:place])
    try:
        told = client.post(GENERATE, generate_body(after, chosen), read_generated, "generation", at_root=True)
    except TeacherFailed as error:
        if error.permanent:
            return reply
        error.usage = _both(reply.usage, error.usage)
        raise
    token = Token(reply.tokens[place].text, reply.tokens[place].logprob, told.alternatives)
    decided = replace(token, complete=tells_all(token, len(chosen)))
    tokens = (*reply.tokens[:place], decided, *reply.tokens[place + 1 :])
    return replace(reply, tokens=tokens, usage=_both(reply.usage, told.usage))


def generate_body(after: Sequence[int], chosen: Sequence[int]) -> dict[str, Any]:
    """The body of a call that tells the log-probabilities of the ``chosen`` tokens after those given; all are ids."""
    return {
        "input_ids": list(after),
        "sampling_params": {"max_new_tokens": 1, "temperature": 1.0},
        "return_logprob": True,
        "logprob_start_len": -1,
        "token_ids_logprob": list(chosen),
        "return_text_in_logprobs": True,
    }


def read_ids(content: bytes) -> Ids:
    """The ids of the tokens of prompt and reply in a chat completion; empty where it has none."""
    try:
        first = read_json(content, _Chat).choices[0]
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError):
        return Ids()
    listed = (first.meta_info and first.meta_info.output_token_logprobs) or []
    return Ids(tuple(first.prompt_token_ids or ()), tuple(id_ for _, id_, _ in listed))


def read_generated(content: bytes) -> Told:
    """What a generation of one token tells of the chosen ones; raises ``DecodeError`` for what is no such reply."""
    meta = read_json(content, _Generated).meta_info
    listed = (meta.output_token_ids_logprobs and meta.output_token_ids_logprobs[0]) or []
    alternatives = tuple((_text(text, id_), _number(logprob)) for logprob, id_, text in listed)
    counts = {name: getattr(meta, name) for name in ("prompt_tokens", "completion_tokens", "cached_tokens")}
    return Told(alternatives, read_usage(counts))


def _text(text: str | None, id_: int) -> bytes:
    return (f"<{id_}>" if text is None else text).encode("utf-8", "surrogatepass")


def _number(logprob: float | None) -> float:
    return logprob if logprob is not None and math.isfinite(logprob) else SENTINEL


def _both(one: Usage | None, other: Usage | None) -> Usage | None:
    return one.plus(other) if one and other else one or other
