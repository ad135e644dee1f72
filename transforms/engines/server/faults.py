"""What a call without a usable reply means: try again, give this request up, or stop the run; without the key."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.visible import one_line
from transforms.engines.server.api_key import KeyKeeper
from transforms.engines.server.retry import retry_after_s
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import ContextOverflow, RequestRefused, TeacherFailed

_RETRIED = (408, 409, 429)  # and every 5xx
_REFUSED = (401, 402, 403, 404, 501)  # key, credit, permission, address, model or endpoint: no other will fare better
_TOO_LONG = (400, 413, 422)
# OpenAI: code context_length_exceeded; llama.cpp: type exceed_context_size_error; the others only tell in words, and
# those of some are about what a reply may take as well, which cutting the prompt does not mend.
_OVERFLOW = re.compile(
    r"context[ _](?:length|size|window)|max(?:imum)?[ _](?:context|model|input|prompt)[ _]len(?:gth)?"
    r"|longer than the maximum"  # vLLM, SGLang, xAI
    r"|(?:input|prompt) (?:token )?(?:count|length)\b.*\b(?:exceeds|should be|must be)"  # Gemini, DashScope
    r"|`inputs`(?: tokens \+ `max_new_tokens`)? must (?:be <=|have less than)"  # text-generation-inference
    r"|(?:prompt|input|request|message)s? (?:is|are) too (?:long|large)|too many (?:input |prompt )?tokens",
    re.IGNORECASE | re.DOTALL,
)
# How llama.cpp refuses to embed more than its batch, with an error of its own.
_TOO_LARGE = re.compile(r"input \(\d+ tokens\) is too large to process", re.IGNORECASE)
# A server whose account is empty says so with 402, or with one of these and in words.
_CREDIT = (400, 403, 412, 429)
_NO_CREDIT = re.compile(
    r"insufficient[ _](?:account )?(?:credit|balance|fund|quota)|credit balance|billing[ _](?:hard[ _])?limit"
    r"|(?:not enough|out of|have any|no) credits?\b|exceeded_current_quota|\barrear|\boverdue|payment[ _]required",
    re.IGNORECASE,
)
# A filter of what may be asked: the model declines, whatever the status is called.
_FILTERS = ("content_filter", "content_policy_violation", "data_inspection_failed")
# What an option can do about words of a server, the first that they match.
_FIXES: tuple[tuple[str, str], ...] = (
    (
        "max_completion_tokens|temperature.*not support",
        "a reasoning model wants max_tokens: null, temperature: null and extra_body: {max_completion_tokens: 4096}",
    ),
    ("top_logprobs|top_n_tokens", "set top_logprobs to what it allows"),
    (
        "logprobs",
        "for a model without log-probabilities set confidence: [sampling], and curate.alpha1 to -ln(samples + 1) or "
        "above, which is all that it reaches",
    ),
    ("response_format|json_schema", "set json_schema: false"),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One call without a usable reply: what was wrong, and the error to end with where another call would not help.

    ``reached`` says that the server answered at all, ``status`` with which error, 0 where it said none. ``asked_s`` is
    how long it asks to wait.
    """

    problem: str
    status: int = 0
    reached: bool = True
    asked_s: float = 0.0
    final: Exception | None = None

    @property
    def refused(self) -> bool:
        """Whether the server was asked too much at once."""
        return self.status == 429

    @property
    def suspect(self) -> bool:
        """Whether the request itself may be what the server stumbles over.

        500 is also what servers say whose own parser fails on what the model wrote, and with this seed always will.
        """
        return self.status == 500


@dataclass(frozen=True, slots=True)
class _Said:
    """What a server says of an error: its message, and the names that it has for it."""

    message: str
    names: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        return "\n".join((*self.names, self.message))


class FaultReader:
    """Reads the errors of one server's calls; ``key_option`` says where its key comes from.

    Servers quote keys. What leaves this class is cleaned of the key.
    """

    def __init__(self, keeper: KeyKeeper, base_url: str, key_option: str, model: str) -> None:
        self._keeper = keeper
        self._base_url, self._key_option, self._model = base_url, key_option, model

    def fault(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> Fault:
        """What a reply that says so itself was wrong about; ``body`` is its JSON, or its text where it is none."""
        said = _said(body)
        problem = self._problem(status, said)
        if status in _REFUSED or _exhausted(status, said):
            return Fault(problem, status, final=self._refusal(status, problem, said))
        if status == 500 and _TOO_LARGE.search(said.message):
            return Fault(problem, status, final=ContextOverflow(problem))
        if status in _RETRIED or status >= 500:
            return Fault(problem, status, asked_s=retry_after_s(headers or {}))
        if status in _TOO_LONG and _OVERFLOW.search(said.words):
            return Fault(problem, status, final=ContextOverflow(problem))
        if any(name in _FILTERS for name in said.names):
            return Fault(problem, status, final=TeacherFailed(problem, permanent=True))
        return Fault(problem, status, final=RequestRefused(problem))

    def fault_within(self, status: int, error: object) -> Fault:
        """What a server was wrong about that says so inside a reply: its own code counts, not that of the reply."""
        code = error.get("code") if isinstance(error, Mapping) else None
        is_status = isinstance(code, int | str) and re.fullmatch(r"[45]\d\d", str(code)) is not None
        return self.fault(int(str(code)) if is_status else status, {"error": error})

    def line(self, said: object) -> str:
        """What a server or a library says, on one line of at most 300 characters."""
        return one_line(self._keeper.hide(str(said)))[:300]  # hidden first: what is left of a cut key is still a secret

    def _problem(self, status: int, said: _Said) -> str:
        problem = f"HTTP {status}: {self.line(said.message)}"
        fixes = (fix for words, fix in _FIXES if re.search(words, problem, re.IGNORECASE))
        return "; ".join((problem, *list(fixes)[:1])) if 400 <= status < 500 else problem

    def _refusal(self, status: int, problem: str, said: _Said) -> EngineError:
        """The error to stop a run with."""
        fix = f"check {self._key_option}"
        if _exhausted(status, said):
            fix = f"top up the account of {self._key_option}; the same command continues"
        elif status in (404, 501):
            fix = f"check base_url (it often ends in /v1) and model ({self._model})"
        return EngineError(f"{self._base_url}: {problem}; {fix}")


def _said(body: object) -> _Said:
    """The forms in which servers say it: ``{"error": {…}}``, in a list, as a text, or without the name around it."""
    if isinstance(body, list) and len(body) == 1:
        body = body[0]
    error = body.get("error", body) if isinstance(body, Mapping) else body
    if not isinstance(error, Mapping):
        return _Said(str(error) if error else "no reason given")
    message = next((error[name] for name in ("message", "detail", "msg") if error.get(name)), None)
    names = tuple(str(error[name]) for name in ("code", "type", "status") if error.get(name))
    return _Said(message if isinstance(message, str) else _plain(error if message is None else message), names)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _exhausted(status: int, said: _Said) -> bool:
    """Whether the account has no credit left, which no waiting mends."""
    return status == 402 or (status in _CREDIT and _NO_CREDIT.search(said.words) is not None)
