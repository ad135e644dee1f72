"""What a server really does with what a teacher asks for: a few short calls before any work starts.

Servers accept options and ignore them, so that nothing is believed of a server but what its replies show. What the
calls could not show is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from prompts.margin import SENTINEL, spelling_of, tells_all
from prompts.write_queries import reply_schema, without_bounds
from schemas.capabilities import Capabilities, ExactBy, Support
from schemas.token import Token
from schemas.video import MODALITIES
from transforms.engines.openai.options import CONTINUE, ChatOptions
from transforms.engines.openai.probing.probed_server import Outcomes, ProbedServer, Shown, is_refused
from transforms.engines.openai.sglang import GENERATE, WITH_IDS, Ids, generate_body, read_generated, read_ids
from transforms.engines.server.faults import Fault
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import TeacherReply

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
_FEWER = (10, 5, 1)  # alternatives to ask for where a server refuses as many as the recipe wants
_LONG_WORDS = 4400  # more than what local servers read unless told otherwise (2048 and 4096); no tokenizer joins words
SPELLINGS = tuple(
    mark + word
    for word in ("yes", "Yes", "YES", "ye", "Ye", "y", "Y", "no", "No", "NO", "n", "N")
    for mark in ("", " ", '"', ' "', "*", "**", " **", "'", "(", "[")
)
"""Ways in which the first token of an answer may spell yes or no, or start to; most are no token of a vocabulary."""
_LEAST_GAP = 0.05  # nats between the alternatives of a token, in all, that tell one temperature from another


def probe_captioner(options: ChatOptions) -> None:
    """Make sure that a server answers the plainest question; raises ``EngineError`` as ``probe_judge`` does."""
    ProbedServer(options).ask({"plain": _body(options)})


def probe_writer(options: ChatOptions, json_schema: bool) -> Capabilities:
    """What the first of the servers that answers does with what a writer of queries asks for, by a few short calls.

    Where it does not say how much it reads, one more call is long: a prompt of some ``_LONG_WORDS`` tokens.

    Raises:
        EngineError: there is no key, a server refuses it, or none answers; or the server refuses every question, or
            JSON schemas where these are wanted.
    """
    server = ProbedServer(options)
    bodies = {"plain": _body(options)}
    if json_schema:
        bodies["json_schema"] = _schema_body(options, _SCHEMA)
        bodies["bounds"] = _schema_body(options, reply_schema(MODALITIES, 1))
    outcomes = server.ask(bodies)
    if isinstance(refusal := outcomes.get("json_schema"), Fault) and is_refused(refusal):
        raise EngineError(f"{server.url} refuses JSON schemas ({refusal.problem}); set json_schema: false")
    bounds = _support(outcomes.get("bounds"), lambda _: True)
    if bounds == "refused":
        bare = server.ask({"bounds": _schema_body(options, without_bounds(reply_schema(MODALITIES, 1)))})
        if _support(bare["bounds"], lambda _: True) != "yes":
            bounds = "unknown"
    return _capabilities(
        server, outcomes, json_schema=_support(outcomes.get("json_schema"), _is_constrained), schema_bounds=bounds
    )


def probe_judge(options: ChatOptions, top_logprobs: int, exact: bool = False) -> Capabilities:
    """What the first of the servers that answers does with what a judge asks for, by calls of one token.

    Where log-probabilities are wanted ``exact``, its tokenizer is asked for the tokens that spell yes or no as well.

    Raises:
        EngineError: there is no key, a server refuses it, or none answers; or the server refuses every question.
    """
    server = ProbedServer(options)
    outcomes = server.ask(_judge_bodies(options, top_logprobs))
    allowed = None
    if _support(outcomes["logprobs"], _tells_logprobs) == "refused":
        for fewer in (n for n in _FEWER if n < top_logprobs):
            again = server.ask(_judge_bodies(options, fewer))
            if _support(again["logprobs"], _tells_logprobs) == "yes":
                outcomes, allowed = again, fewer
                break
    told, ids, exact_by = _exact(server, options) if exact else ("unknown", (), "")
    prefill = _support(outcomes["prefill"], _goes_on)
    if prefill == "ignored" and _refuses_nonsense(server, options):
        prefill = "yes"
    return _capabilities(
        server,
        outcomes,
        logprobs=_support(outcomes["logprobs"], _tells_logprobs),
        top_logprobs=allowed,
        alternatives=_alternatives(outcomes["logprobs"]),
        logprobs_mode=_mode(outcomes["logprobs"], outcomes.get("cooler")),
        n=_support(outcomes["n"], lambda one: one.choices == 2),
        prefill=prefill,
        logprobs_exact=told,
        exact_ids=ids if told == "yes" else (),
        exact_by=exact_by if told == "yes" else "",
    )


def _exact(server: ProbedServer, options: ChatOptions) -> tuple[Support, tuple[int, ...], ExactBy]:
    """Whether a server tells the log-probabilities of chosen tokens, those of its tokens that spell yes or no, and how
    it is asked for them.
    """
    found = server.token_ids(SPELLINGS)
    if found is None:
        return "unknown", (), ""
    if {spelling_of(text.encode()) for text in found} != {"yes", "no"}:
        return "refused", (), ""
    ids = tuple(sorted(set(found.values())))

    def lists_them(shown: Shown) -> bool | None:
        tokens = shown.reply.tokens
        return {tells_all(token, len(ids)) for token in tokens} == {True} if shown.reply.text else None

    outcome = server.ask({"exact": _body(options, logprobs=True, logprob_token_ids=list(ids))})["exact"]
    told = _support(outcome, lists_them)
    if told != "yes" and _generates(server, options, ids):
        return "yes", ids, "token_ids_logprob"
    return told, ids, "logprob_token_ids"


def _generates(server: ProbedServer, options: ChatOptions, ids: Sequence[int]) -> bool:
    """Whether a server tells the ids of a reply's tokens, and then those of the chosen ones after a prompt: SGLang.

    It is told by the name of a model which adapter (LoRA) answers, and ``/generate`` is not.
    """
    if ":" in options.model or "lora_path" in options.extra_body:
        return False
    told = server.post("/chat/completions", {**_body(options, logprobs=True, top_logprobs=1), **WITH_IDS})
    seen = read_ids(told) if isinstance(told, bytes) else Ids()
    if not (seen.prompt and seen.reply):
        return False
    content = server.post(GENERATE, generate_body(seen.prompt, ids), at_root=True)
    try:
        found = read_generated(content) if isinstance(content, bytes) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return found is not None and tells_all(Token(b"", 0.0, found.alternatives), len(ids))


def _judge_bodies(options: ChatOptions, top_logprobs: int) -> dict[str, dict[str, Any]]:
    wanted: dict[str, Any] = {"logprobs": True, "top_logprobs": top_logprobs}
    at: dict[str, Any] = {} if options.temperature is None else {"temperature": 1.0}
    bodies = {
        "plain": _body(options),
        "n": _body(options, n=2),
        "logprobs": _body(options, **wanted, **at),
        "prefill": _body(options, said=SAID, **wanted, **at, **CONTINUE),
    }
    if at:
        bodies["cooler"] = _body(options, **wanted, temperature=0.5)
    return bodies


def _refuses_nonsense(server: ProbedServer, options: ChatOptions) -> bool:
    """Whether a server knows how it is told to go on from an answer: it then refuses to be told to begin anew as well.

    That shows it of vLLM whatever the model says, which may not be able to count, or be bound by a grammar.
    """
    told = {**CONTINUE, "add_generation_prompt": True}
    return is_refused(server.ask({"nonsense": _body(options, said=SAID, **told)})["nonsense"])


def _capabilities(server: ProbedServer, outcomes: Outcomes, **found: Any) -> Capabilities:
    shown = [outcome.reply for outcome in outcomes.values() if isinstance(outcome, Shown)]
    context_tokens = server.context_tokens
    return Capabilities(
        server=server.url,
        usage=tuple(sorted({name for reply in shown if reply.usage for name in reply.usage.known()})),
        context_tokens=context_tokens,
        reads_tokens=None if context_tokens else _reads_tokens(server, shown),
        **found,
    )


def _reads_tokens(server: ProbedServer, shown: list[TeacherReply]) -> int | None:
    """How many tokens a server says that it read of a long prompt, where these are not all; None where it reads it.

    One that counts the same for every prompt does not count.
    """
    short = [reply.usage.input_tokens for reply in shown if reply.usage and reply.usage.input_tokens]
    if not short:
        return None
    filler = " ".join((SAID.split() * _LONG_WORDS)[:_LONG_WORDS])
    outcome = server.ask({"long": _body(server.options, before=f"{filler}\n\n")})["long"]
    usage = outcome.reply.usage if isinstance(outcome, Shown) else None
    read = usage.input_tokens if usage else None
    return read if read is not None and max(short) < read < _LONG_WORDS else None


def _schema_body(options: ChatOptions, schema: Mapping[str, Any]) -> dict[str, Any]:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    return _body(options, _SCHEMA_TOKENS, response_format=form)


def _body(options: ChatOptions, tokens: int = 1, said: str = "", before: str = "", **parameters: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": before + QUESTION}]
    if said:
        messages.append({"role": "assistant", "content": said})
    limit = None if options.max_tokens is None else min(tokens, options.max_tokens)
    return options.request(messages, **{"max_tokens": limit, "seed": 0, **parameters})


def _support(outcome: Shown | Fault | None, does: Callable[[Shown], bool | None]) -> Support:
    """What a reply shows; ``does`` gives None where it does not."""
    if not isinstance(outcome, Shown):
        return "refused" if outcome is not None and is_refused(outcome) else "unknown"
    answer = does(outcome)
    return "unknown" if answer is None else "yes" if answer else "ignored"


def _tells_logprobs(shown: Shown) -> bool | None:
    """Whether the reply's tokens have any; None where it has no token."""
    return bool(shown.reply.tokens) if shown.reply.text or shown.reply.tokens else None


def _is_constrained(shown: Shown) -> bool | None:
    """Whether a reply is the one that the schema allows; None where it was cut off before that could be seen."""
    said = "".join(shown.reply.text.split())
    allowed = "".join(json.dumps(ANSWER).split())
    if shown.reply.truncated and (allowed.startswith(said) or said.startswith("<think>")):
        return None
    return said.rpartition("</think>")[2] == allowed


def _goes_on(shown: Shown) -> bool | None:
    """Whether a reply of one token goes on from ``SAID``, which llama.cpp repeats before it."""
    text = shown.reply.text
    if text.startswith(SAID):
        return len(text) < 2 * len(SAID)  # else it began anew, and was not stopped after one token
    first = shown.reply.tokens[0].text.decode("utf-8", "replace") if shown.reply.tokens else text
    return first[0].isspace() if first else None


def _alternatives(outcome: Shown | Fault) -> int | None:
    tokens = outcome.reply.tokens if isinstance(outcome, Shown) else ()
    return len(tokens[0].alternatives) if tokens else None


def _mode(first: Shown | Fault, cooler: Shown | Fault | None) -> Literal["raw", "processed", "unknown"]:
    """Whether half the temperature doubles how far the alternatives are apart."""
    warm, cold = _distribution(first), _distribution(cooler)
    both = warm.keys() & cold.keys()
    if not both:
        return "unknown"
    apart, apart_cooler = (sum(max(each[t] for t in both) - each[t] for t in both) for each in (warm, cold))
    if apart < _LEAST_GAP:
        return "unknown"
    return "processed" if apart_cooler > 1.5 * apart else "raw"


def _distribution(outcome: Shown | Fault | None) -> dict[bytes, float]:
    tokens = outcome.reply.tokens if isinstance(outcome, Shown) else ()
    return {text: logprob for text, logprob in (tokens[0].alternatives if tokens else ()) if logprob > SENTINEL}
