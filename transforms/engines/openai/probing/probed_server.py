"""One server, asked a few questions before any work starts: the calls, and what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec

from schemas.check import read_json
from transforms.engines.openai.chat import BAD_GATEWAY, ChatClient
from transforms.engines.openai.completion import NoAnswer, count_choices, read_completion
from transforms.engines.openai.options import ChatOptions
from transforms.engines.server.api_key import KeyKeeper
from transforms.engines.server.connection import Connection
from transforms.engines.server.faults import Fault, FaultReader
from transforms.engines.server.retry import pause_s
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherReply
from transforms.workers.event_loop import event_loop

_PASSING = (401, 402, 403, 404, 408, 409, 429)  # of 400 to 499: they say nothing of what was asked for
_BUSY = (408, 409, 429, 502, 503, 504)
_RETRIES = 2
_TIMEOUT_S = 60.0  # for a question: a server that is busy with other runs answers late, and what it can do is the same
_TOKENIZED_AT_ONCE = 4  # some servers let no more than five connections wait to be accepted

A = TypeVar("A")


@dataclass(frozen=True, slots=True)
class Shown:
    """A reply, and how many the server gave at once."""

    reply: TeacherReply
    choices: int


Bodies = Mapping[str, Mapping[str, Any]]  # calls by what they are to show
Outcomes = Mapping[str, Shown | Fault]


class ProbedServer:
    """The first of the servers of a model that answers; ``context_tokens`` is how much it says it reads and writes."""

    def __init__(self, options: ChatOptions) -> None:
        self.options = options
        self.url = ChatClient(options).check()[0]
        self._limit_s = min(_TIMEOUT_S, options.timeout_s)
        key_option = options.api_key_file or options.api_key_env
        self._key = options.key()
        self._faults = FaultReader(KeyKeeper(self._key), self.url, key_option, options.model)
        self.context_tokens = _context_tokens(event_loop().run(self._models()), options.model)

    def ask(self, bodies: Bodies) -> Outcomes:
        """What the server makes of each body, all asked at once; again, a little later, of those it was busy for.

        Raises:
            EngineError: it refuses the plainest of them, the one that is called so.
        """
        outcomes = event_loop().run(self._ask(bodies))
        plain = outcomes.get("plain")
        if isinstance(plain, Fault) and isinstance(plain.final, EngineError):
            raise plain.final
        if isinstance(plain, Fault) and is_refused(plain):
            raise EngineError(f"{self.url} refuses even the plainest question ({plain.problem})")
        return outcomes

    def post(self, path: str, body: Mapping[str, Any], at_root: bool = False) -> bytes | Fault:
        """The reply to one body, as it came; asked for again as in ``ask``."""
        return event_loop().run(self._post(path, body, at_root))

    async def _post(self, path: str, body: Mapping[str, Any], at_root: bool) -> bytes | Fault:
        connection = Connection(self.url, 1, self._key, self._faults)
        try:
            return await _insisting(lambda: connection.post(path, body, self._limit_s, at_root))
        finally:
            await connection.close()

    def token_ids(self, texts: Sequence[str]) -> dict[str, int] | None:
        """The token that each text is, where it is one, by the server's own tokenizer; none where it shows none.

        None where the server was too busy to say.
        """
        return event_loop().run(self._token_ids(texts))

    async def _token_ids(self, texts: Sequence[str]) -> dict[str, int] | None:
        connection = Connection(self.url, _TOKENIZED_AT_ONCE, self._key, self._faults)

        async def tokens(text: str) -> list[int] | None:
            body = {"model": self.options.model, "prompt": text, "add_special_tokens": False}
            content = await _insisting(lambda: connection.post("/tokenize", body, self._limit_s, at_root=True))
            if isinstance(content, Fault):
                return None if _is_busy(content) else []
            try:
                return read_json(content, _Tokens).tokens
            except (msgspec.DecodeError, UnicodeDecodeError):
                return []

        try:
            first = await tokens(texts[0])
            if not first:
                return None if first is None else {}
            found = await asyncio.gather(*map(tokens, texts))
        finally:
            await connection.close()
        known = [ids for ids in found if ids is not None]
        if len(known) < len(texts):
            return None
        return {text: ids[0] for text, ids in zip(texts, known, strict=True) if len(ids) == 1}

    async def _ask(self, bodies: Bodies) -> Outcomes:
        connection = Connection(self.url, len(bodies), self._key, self._faults)

        async def shown(body: Mapping[str, Any]) -> Shown | Fault:
            return self._read(await connection.post("/chat/completions", body, self._limit_s))

        try:
            shows = await asyncio.gather(*(_insisting(partial(shown, body)) for body in bodies.values()))
        finally:
            await connection.close()
        return dict(zip(bodies, shows, strict=True))

    async def _models(self) -> bytes | Fault:
        connection = Connection(self.url, 1, self._key, self._faults)
        try:
            return await connection.get("/models", self._limit_s)
        finally:
            await connection.close()

    def _read(self, content: bytes | Fault) -> Shown | Fault:
        if isinstance(content, Fault):
            return content
        try:
            return Shown(read_completion(content), count_choices(content))
        except NoAnswer as said:
            return self._faults.fault_within(BAD_GATEWAY, said.error)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Fault("the reply is no chat completion")


def _context_tokens(models: bytes | Fault, model: str) -> int | None:
    """``max_model_len`` in the list of models of vLLM and SGLang, ``meta.n_ctx`` in that of llama.cpp, whose only model
    goes by any name.
    """
    try:
        listed = read_json(models, _Models).data if isinstance(models, bytes) else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    named = [each for each in listed if each.id == model] or (listed if len(listed) == 1 else [])
    return next((each.max_model_len or each.meta.n_ctx for each in named), None)


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Meta(msgspec.Struct):
    n_ctx: int | None = None


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Models(msgspec.Struct):
    data: list[_Model]


async def _insisting(ask: Callable[[], Awaitable[A | Fault]]) -> A | Fault:
    """What comes of asking; again, a little later, where the server was busy."""
    outcome = await ask()
    for retry in range(_RETRIES):
        if not _is_busy(outcome):
            break
        await asyncio.sleep(pause_s(retry, 0.0))
        outcome = await ask()
    return outcome


def _is_busy(outcome: object) -> bool:
    return isinstance(outcome, Fault) and (outcome.status in _BUSY or not outcome.reached)


def is_refused(outcome: Shown | Fault) -> bool:
    """Whether the server does not take such a question."""
    return isinstance(outcome, Fault) and (
        outcome.status == 501 or (400 <= outcome.status < 500 and outcome.status not in _PASSING)
    )
