"""What a call without a usable reply means: try again, give this request up, or stop the run; without the key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from schemas.visible import one_line
from transforms.engines.server.api_key import KeyKeeper
from transforms.engines.server.retry import retry_after_s
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import ContextOverflow, TeacherFailed

if TYPE_CHECKING:
    from openai import APIStatusError

_RETRIED = (408, 409, 429)  # and every 5xx
_REFUSED = (401, 403, 404, 501)  # key, permission, address, model or endpoint: no other request will fare better
_TOO_LONG = (400, 413, 422)
# OpenAI: code context_length_exceeded; llama.cpp: type exceed_context_size_error; vLLM and SGLang only tell in words.
_OVERFLOW = re.compile(
    r"context[ _](?:length|size|window)|max(?:imum)?[ _](?:context|model|input)[ _]len(?:gth)?|longer than the maximum",
    re.IGNORECASE,
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


class FaultReader:
    """Reads the errors of one server's calls; ``key_option`` says where its key comes from.

    Servers quote keys. What leaves this class is cleaned of the key.
    """

    def __init__(self, keeper: KeyKeeper, base_url: str, key_option: str, model: str) -> None:
        self._keeper = keeper
        self._base_url, self._key_option, self._model = base_url, key_option, model

    def fault(self, error: APIStatusError) -> Fault:
        """What a reply that says so itself was wrong about."""
        problem, status = self._problem(error), error.status_code
        if status in _REFUSED or _exhausted(error):
            return Fault(problem, status, final=self.refusal(error))
        if status not in _RETRIED and status < 500:
            too_long = status in _TOO_LONG and _overflows(error)
            final = ContextOverflow(problem) if too_long else TeacherFailed(problem, permanent=True)
            return Fault(problem, status, final=final)
        return Fault(problem, status, asked_s=retry_after_s(error.response.headers))

    def refusal(self, error: APIStatusError) -> EngineError:
        """The error to stop a run with."""
        fix = f"check {self._key_option}"
        if error.status_code in (404, 501):
            fix = f"check base_url (it often ends in /v1) and model ({self._model})"
        elif _exhausted(error):
            fix = f"top up the account of {self._key_option}"
        return EngineError(f"{self._base_url}: {self._problem(error)}; {fix}")

    def line(self, said: object) -> str:
        """What a server or a library says, on one line of at most 300 characters."""
        return one_line(self._keeper.hide(str(said)))[:300]  # hidden first: what is left of a cut key is still a secret

    def _problem(self, error: APIStatusError) -> str:
        said = error.body.get("message") if isinstance(error.body, Mapping) else None
        problem = f"HTTP {error.status_code}: {self.line(said or error.message)}"
        if "logprobs" in problem:
            problem += "; for a model without log-probabilities set the option confidence: [sampling]"
        return problem


def _exhausted(error: APIStatusError) -> bool:
    """Whether the account has no credit left: a 429 that does not pass."""
    body = error.body
    return isinstance(body, Mapping) and "insufficient_quota" in (body.get("code"), body.get("type"))


def _overflows(error: APIStatusError) -> bool:
    """Whether the request is longer than the model's context, or leaves too little of it for the answer."""
    body = error.body if isinstance(error.body, Mapping) else {}
    said = (body.get("code"), body.get("type"), body.get("message"), error.message)
    return any(isinstance(each, str) and _OVERFLOW.search(each) for each in said)
