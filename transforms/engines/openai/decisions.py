"""Endpoints that state the probability of an answer without writing one: how they are asked, and what they reply."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from prompts.template import Prompt
from schemas.check import read_json
from transforms.engines.openai.usage import read_usage
from transforms.protocols.teacher import TeacherReply

_NAME = "answers"
_QUESTION = "Does the video answer the query?"
_STATEMENT = "The video answers the query."

_Probability = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


@dataclass(frozen=True, slots=True)
class DecisionEndpoint:
    """A path under the server's address, the body that asks there about a prompt, and how its reply is read.

    ``body`` is called with the model and the prompt. ``read`` raises ``msgspec.DecodeError`` or ``UnicodeDecodeError``
    for what is no such reply; it gives no ``p_yes`` where the question was left unanswered.
    """

    path: str
    body: Callable[[str, Prompt], dict[str, Any]]
    read: Callable[[bytes], TeacherReply]


class _Noul(msgspec.Struct):
    type: Literal["noul"]
    noul: _Probability


class _SystemOne(msgspec.Struct):
    answers: Mapping[str, _Noul]
    usage: Any = None


class _Predicate(msgspec.Struct, tag="predicate", tag_field="type"):
    probability: _Probability


class _Refusal(msgspec.Struct, tag="refusal", tag_field="type"):
    pass


class _Decision(msgspec.Struct):
    answers: Annotated[list[_Predicate | _Refusal], msgspec.Meta(min_length=1, max_length=1)]
    usage: Any = None


def _ask_systemone(model: str, prompt: Prompt) -> dict[str, Any]:
    question = {"type": "noul", "instructions": _QUESTION}
    return {"model": model, "state": f"{prompt.system}\n\n{prompt.user}", "questions": {_NAME: question}}


def _read_systemone(body: bytes) -> TeacherReply:
    reply = read_json(body, _SystemOne)
    if _NAME not in reply.answers:
        raise msgspec.ValidationError(f"the reply has no answer {_NAME!r}")
    return TeacherReply(_said(body), usage=read_usage(reply.usage), p_yes=reply.answers[_NAME].noul)


def _ask_decisions(model: str, prompt: Prompt) -> dict[str, Any]:
    messages = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
    question = {"type": "predicate", "name": _NAME, "instructions": _STATEMENT}
    return {"model": model, "input": messages, "questions": [question]}


def _read_decisions(body: bytes) -> TeacherReply:
    reply = read_json(body, _Decision)
    (answer,) = reply.answers
    said, usage = _said(body), read_usage(reply.usage)
    if isinstance(answer, _Refusal):
        return TeacherReply(said, usage=usage, refused=True)
    return TeacherReply(said, usage=usage, p_yes=answer.probability)


def _said(body: bytes) -> str:
    """The answers as the server put them; what else it says of itself differs from call to call."""
    answers = read_json(body, dict[str, msgspec.Raw])["answers"]
    return bytes(answers).decode()


ENDPOINTS: Mapping[str, DecisionEndpoint] = {
    # Of the System One API: `transformers serve`, vLLM and SGLang have it for any chat model.
    "systemone": DecisionEndpoint("/systemone", _ask_systemone, _read_systemone),
    # Of OpenAI's API since openai 3.26 (types/decision.py).
    "decisions": DecisionEndpoint("/decisions", _ask_decisions, _read_decisions),
}
