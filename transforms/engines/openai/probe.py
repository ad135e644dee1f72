"""What a server really does with what a teacher asks for: a few short calls before any work starts.

Servers accept options and ignore them, so that nothing is believed of a server but what its replies show. What the
calls could not show is unknown, and changes nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec

from schemas.capabilities import Capabilities, Support
from transforms.engines.openai.chat import CHECK_TIMEOUT_S, ChatClient
from transforms.engines.openai.completion import read_completion
from transforms.engines.openai.teacher import CONTINUE, OpenAiTeacher, Rung
from transforms.engines.server.api_key import KeyKeeper
from transforms.engines.server.connection import Connection
from transforms.engines.server.faults import Fault, FaultReader
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import Task, TeacherReply
from transforms.workers.event_loop import event_loop

QUESTION = "Count from one to ten in English words, separated by spaces."
SAID = "one two three four"  # to go on from it takes a space; to answer anew does not begin with one
ANSWER = {"answer": "tram"}  # which nobody gives to the question who is not made to
_SCHEMA = {
    "type": "object",
    "properties": {name: {"const": value} for name, value in ANSWER.items()},
    "required": list(ANSWER),
    "additionalProperties": False,
}
_SCHEMA_TOKENS = 48  # servers that leave white space free take a random model's word for it
_NOT_REPORTED = -9000.0  # what servers put for a token that has no log-probability
_LEAST_GAP = 0.05  # nats between the alternatives of a token, in all, that tell one temperature from another
_PASSING = (401, 403, 404, 408, 409, 429)  # of 400 to 499: they say nothing of what was asked for


@dataclass(frozen=True, slots=True)
class _Shown:
    """A reply, and how many the server gave at once."""

    reply: TeacherReply
    choices: int


Outcomes = Mapping[str, _Shown | Fault]


def probe(options: OpenAiTeacher, task: Task) -> Capabilities:
    """What the first of a teacher's servers that answers does with what it will be asked for ``task``.

    Takes one call of a few tokens to a writer and four of one token to a judge, all at once, each at most
    ``CHECK_TIMEOUT_S``; one more where it refuses them all.

    Raises:
        EngineError: there is no key, a server refuses it, or none answers; or the server refuses JSON schemas.
    """
    url = ChatClient(options).check()[0]
    models, outcomes = event_loop().run(_ask(options, url, _bodies(options, task)))
    shown = [outcome.reply for outcome in outcomes.values() if isinstance(outcome, _Shown)]
    found = Capabilities(
        server=url,
        json_schema=_support(outcomes.get("json_schema"), _is_constrained),
        logprobs=_support(outcomes.get("logprobs"), _tells_logprobs),
        alternatives=_alternatives(outcomes.get("logprobs")),
        logprobs_mode=_mode(outcomes.get("logprobs"), outcomes.get("cooler")),
        n=_support(outcomes.get("n"), lambda one: one.choices == 2),
        prefill=_support(outcomes.get("prefill"), _goes_on),
        usage=tuple(sorted({name for reply in shown if reply.usage for name in reply.usage.known()})),
        context_tokens=_context_tokens(models, options.model),
    )
    if isinstance(refusal := outcomes.get("json_schema"), Fault) and _is_refused(refusal):
        raise EngineError(f"{url} refuses JSON schemas ({refusal.problem}); set json_schema: false")
    return found


def fitted(options: OpenAiTeacher, task: Task) -> tuple[OpenAiTeacher, Capabilities]:
    """A teacher without what its server cannot serve, and what was found of the server; raises what ``probe`` does.

    Neither its stamp nor what it is first asked about a pair changes: replies of earlier runs stay good.
    """
    found = probe(options, task)
    lacks = _lacks_of_writer(options, found) if task == "write_queries" else []
    if task == "judge":
        options, lacks = _without(options, found)
    if found.context_tokens and found.context_tokens <= (options.max_tokens or 0):
        lacks.append(f"has a context of {found.context_tokens} tokens, which max_tokens ({options.max_tokens}) fills")
    return options, replace(found, lacks=f"{found.server} {'; '.join(lacks)}" if lacks else "")


def _lacks_of_writer(options: OpenAiTeacher, found: Capabilities) -> list[str]:
    if options.json_schema and found.json_schema == "ignored":
        return ["ignores JSON schemas: replies are parsed all the same, and asked for again where they do not fit"]
    return []


def _without(options: OpenAiTeacher, found: Capabilities) -> tuple[OpenAiTeacher, list[str]]:
    """The judge without the rungs that its server lacks, and why."""
    why: dict[Rung, str] = {}
    if found.logprobs in ("ignored", "refused"):
        why["logprobs"] = why["logprobs_prefill"] = f"gives no log-probabilities ({found.logprobs})"
    elif found.logprobs_mode == "processed" and options.temperature != 1.0:
        why["logprobs"] = f"gives log-probabilities of temperature {options.temperature:g} instead of 1"
    if found.prefill in ("ignored", "refused"):
        why.setdefault("logprobs_prefill", f"does not go on from the start of an answer ({found.prefill})")
    lacks = []
    if lost := [rung for rung in options.confidence if rung in why]:
        left = [rung for rung in options.confidence if rung not in why]
        instead = (
            f"come from {', then '.join(left)}" if left else "are null (confidence: [sampling] would measure them)"
        )
        reasons = ", ".join(dict.fromkeys(why[rung] for rung in lost))
        lacks.append(f"{reasons}: margins {instead} instead of from {', '.join(lost)}")
    if "logprobs" in options.confidence and "logprobs" not in why and _may_be_scaled(options, found):
        lacks.append(
            "did not show whether its log-probabilities follow the temperature: margins are the model's only if they "
            "do not (temperature: 1 is safe)"
        )
    if options.prior == "prefill" and "logprobs_prefill" in why:
        options = replace(options, prior=None)
        lacks.append(f"{why['logprobs_prefill']}: delta_prior is null")
    if found.alternatives is not None and found.alternatives < options.top_logprobs:
        told = f"{found.alternatives} of {options.top_logprobs}"
        lacks.append(f"reports only {told} alternatives of a token: the intervals of margins are wider")
    return replace(options, lacking=tuple(why)), lacks


def _may_be_scaled(options: OpenAiTeacher, found: Capabilities) -> bool:
    return found.logprobs_mode == "unknown" and options.temperature not in (None, 1.0)


def _bodies(options: OpenAiTeacher, task: Task) -> dict[str, dict[str, Any]]:
    """The calls by what they are to show."""
    if task == "write_queries":
        schema = {"name": "answer", "strict": True, "schema": _SCHEMA}
        form = {"type": "json_schema", "json_schema": schema}
        return {"json_schema": _body(options, _SCHEMA_TOKENS, response_format=form)} if options.json_schema else {}
    wanted: dict[str, Any] = {"logprobs": True, "top_logprobs": options.top_logprobs}
    at: dict[str, Any] = {} if options.temperature is None else {"temperature": 1.0}
    bodies = {
        "n": _body(options, n=2),
        "logprobs": _body(options, **wanted, **at),
        "prefill": _body(options, said=SAID, **wanted, **CONTINUE, **at),
    }
    if at:
        bodies["cooler"] = _body(options, **wanted, temperature=0.5)
    return bodies


def _body(options: OpenAiTeacher, tokens: int = 1, said: str = "", **parameters: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": QUESTION}]
    if said:
        messages.append({"role": "assistant", "content": said})
    limit = None if options.max_tokens is None else min(tokens, options.max_tokens)
    return options.request(messages, **{"max_tokens": limit, "seed": 0, **parameters})


async def _ask(options: OpenAiTeacher, url: str, bodies: Mapping[str, Any]) -> tuple[bytes | Fault, Outcomes]:
    """What the server says of its models, and what it makes of each body; nothing where it refuses any question."""
    key, limit_s = options.key(), min(CHECK_TIMEOUT_S, options.timeout_s)
    faults = FaultReader(KeyKeeper(key), url, options.api_key_file or options.api_key_env, options.model)
    connection = Connection(url, len(bodies), key, faults)

    async def ask(body: Mapping[str, Any]) -> _Shown | Fault:
        return _read(await connection.post("/chat/completions", body, limit_s))

    try:
        models, outcomes = await asyncio.gather(
            connection.get("/models", limit_s), asyncio.gather(*map(ask, bodies.values()))
        )
        if bodies and all(map(_is_refused, outcomes)) and _is_refused(await ask(_body(options))):
            return models, {}
        return models, dict(zip(bodies, outcomes, strict=True))
    finally:
        await connection.close()


def _read(content: bytes | Fault) -> _Shown | Fault:
    if isinstance(content, Fault):
        return content
    try:
        return _Shown(read_completion(content), len(msgspec.json.decode(content)["choices"]))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Fault("the reply is no chat completion")


def _is_refused(outcome: _Shown | Fault) -> bool:
    return isinstance(outcome, Fault) and (
        outcome.status == 501 or (400 <= outcome.status < 500 and outcome.status not in _PASSING)
    )


def _support(outcome: _Shown | Fault | None, does: Callable[[_Shown], bool | None]) -> Support:
    """What a reply shows; ``does`` gives None where it does not."""
    if not isinstance(outcome, _Shown):
        return "refused" if outcome is not None and _is_refused(outcome) else "unknown"
    answer = does(outcome)
    return "unknown" if answer is None else "yes" if answer else "ignored"


def _tells_logprobs(shown: _Shown) -> bool | None:
    """Whether the reply's tokens have any; None where it has no token."""
    return bool(shown.reply.tokens) if shown.reply.text or shown.reply.tokens else None


def _is_constrained(shown: _Shown) -> bool | None:
    """Whether a reply is the one that the schema allows; None where it was cut off before that could be seen."""
    said = "".join(shown.reply.text.split())
    allowed = "".join(json.dumps(ANSWER).split())
    if shown.reply.truncated and (allowed.startswith(said) or said.startswith("<think>")):
        return None
    return said.rpartition("</think>")[2] == allowed


def _goes_on(shown: _Shown) -> bool | None:
    """Whether a reply of one token goes on from ``SAID``, which llama.cpp repeats before it."""
    text = shown.reply.text
    if text.startswith(SAID):
        return len(text) < 2 * len(SAID)  # else it began anew, and was not stopped after one token
    first = shown.reply.tokens[0].text.decode("utf-8", "replace") if shown.reply.tokens else text
    return first[0].isspace() if first else None


def _alternatives(outcome: _Shown | Fault | None) -> int | None:
    tokens = outcome.reply.tokens if isinstance(outcome, _Shown) else ()
    return len(tokens[0].alternatives) if tokens else None


def _mode(first: _Shown | Fault | None, cooler: _Shown | Fault | None) -> Literal["raw", "processed", "unknown"]:
    """Whether half the temperature doubles how far the alternatives are apart."""
    warm, cold = _distribution(first), _distribution(cooler)
    both = warm.keys() & cold.keys()
    if not both:
        return "unknown"
    apart, apart_cooler = (sum(max(each[t] for t in both) - each[t] for t in both) for each in (warm, cold))
    if apart < _LEAST_GAP:
        return "unknown"
    return "processed" if apart_cooler > 1.5 * apart else "raw"


def _distribution(outcome: _Shown | Fault | None) -> dict[bytes, float]:
    tokens = outcome.reply.tokens if isinstance(outcome, _Shown) else ()
    return {text: logprob for text, logprob in (tokens[0].alternatives if tokens else ()) if logprob > _NOT_REPORTED}


def _context_tokens(models: bytes | Fault, model: str) -> int | None:
    """How much the model reads and writes, where the list of models tells: ``max_model_len`` in vLLM and SGLang,
    ``meta.n_ctx`` in llama.cpp, whose only model goes by any name.
    """
    try:
        listed = msgspec.json.decode(models, type=_Models).data if isinstance(models, bytes) else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    named = [each for each in listed if each.id == model] or (listed if len(listed) == 1 else [])
    return next((each.max_model_len or each.meta.n_ctx for each in named), None)


class _Meta(msgspec.Struct):
    n_ctx: int | None = None


class _Model(msgspec.Struct):
    id: str
    max_model_len: int | None = None
    meta: _Meta = msgspec.field(default_factory=_Meta)


class _Models(msgspec.Struct):
    data: list[_Model]
