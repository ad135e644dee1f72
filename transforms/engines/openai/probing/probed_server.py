"""One server, asked a few questions before any work starts: the calls, and what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from schemas.check import read_json
from transforms.engines.openai.chat import BAD_GATEWAY, CHECK_TIMEOUT_S, ChatClient
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
        self._limit_s = min(CHECK_TIMEOUT_S, options.timeout_s)
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
        """The reply to one body, as it came."""
        return event_loop().run(self._post(path, body, at_root))

    async def _post(self, path: str, body: Mapping[str, Any], at_root: bool) -> bytes | Fault:
        connection = Connection(self.url, 1, self._key, self._faults)
        try:
            return await connection.post(path, body, self._limit_s, at_root)
        finally:
            await connection.close()

    def token_ids(self, texts: Sequence[str]) -> dict[str, int]:
        """The token that each text is, where it is one, by the server's own tokenizer; none where it shows none."""
        return event_loop().run(self._token_ids(texts))

    async def _token_ids(self, texts: Sequence[str]) -> dict[str, int]:
        connection = Connection(self.url, len(texts), self._key, self._faults)

        async def tokens(text: str) -> list[int]:
            body = {"model": self.options.model, "prompt": text, "add_special_tokens": False}
            content = await connection.post("/tokenize", body, self._limit_s, at_root=True)
            try:
                return read_json(content, _Tokens).tokens if isinstance(content, bytes) else []
            except (msgspec.DecodeError, UnicodeDecodeError):
                return []

        try:
            if not await tokens(texts[0]):
                return {}
            found = await asyncio.gather(*map(tokens, texts))
        finally:
            await connection.close()
        return {text: ids[0] for text, ids in zip(texts, found, strict=True) if len(ids) == 1}

    async def _ask(self, bodies: Bodies) -> Outcomes:
        connection = Connection(self.url, len(bodies), self._key, self._faults)
        outcomes: dict[str, Shown | Fault] = {}
        try:
            for attempt in range(1 + _RETRIES):
                due = [name for name in bodies if name not in outcomes or _is_busy(outcomes[name])]
                if due and attempt:
                    await asyncio.sleep(pause_s(attempt - 1, 0.0))
                asked = (connection.post("/chat/completions", bodies[name], self._limit_s) for name in due)
                outcomes.update(zip(due, map(self._read, await asyncio.gather(*asked)), strict=True))
        finally:
            await connection.close()
        return outcomes

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


def _is_busy(outcome: Shown | Fault) -> bool:
    return isinstance(outcome, Fault) and (outcome.status in _BUSY or not outcome.reached)


def is_refused(outcome: Shown | Fault) -> bool:
    """Whether the server does not take such a question."""
    return isinstance(outcome, Fault) and (
        outcome.status == 501 or (400 <= outcome.status < 500 and outcome.status not in _PASSING)
    )
