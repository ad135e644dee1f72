"""A teacher behind an OpenAI-compatible server: writes queries against a JSON schema, judges with log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from prompts.margin import tells_all
from prompts.negative_queries import negatives_schema
from prompts.write_queries import reply_schema, without_bounds
from schemas.capabilities import Capabilities, ExactBy
from schemas.check import require
from schemas.video import EngineStamp
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.decisions import ENDPOINTS
from transforms.engines.openai.options import CONTINUE, ChatOptions
from transforms.engines.openai.probing.probe import probe_judge, probe_writer
from transforms.engines.openai.sglang import ask_exactly
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import (
    Ladder,
    PriorWay,
    Task,
    Teacher,
    TeacherEngine,
    TeacherReply,
    TeacherRequest,
)

Rung = Literal["logprobs_exact", "logprobs", "logprobs_prefill", "sampling", "verbalized"]


@dataclass(frozen=True, slots=True)
class Served:
    """What the server turned out to serve when the run began: rungs that are ``lacking`` are passed over.

    ``logprobs`` says that it was seen to report log-probabilities, ``top_logprobs`` for how many alternatives it can be
    asked at most, None where that is as many as wanted, and ``schema_bounds`` that a schema may bound strings and
    lists. ``exact_ids`` are the server's tokens that spell yes or no, empty where it does not tell their
    log-probabilities, None where it was not asked; ``exact_by`` is how they are asked for.
    """

    lacking: tuple[Rung, ...] = ()
    logprobs: bool = False
    top_logprobs: int | None = None
    exact_ids: tuple[int, ...] | None = None
    exact_by: ExactBy = ""
    schema_bounds: bool = True


@dataclass(frozen=True, kw_only=True)
class OpenAiTeacher(ChatOptions, TeacherEngine):
    """Options of the teacher.

    ``json_schema: false`` is for servers that cannot constrain a reply. ``confidence`` lists where the confidence of a
    judgement may come from, tried in this order until one gives a margin; with an empty list it is label-only.

    - ``logprobs_exact``: those of every token that spells yes or no, whatever else is likelier, so that nothing is left
      to bound. It needs a server that has /tokenize and tells them of chosen tokens: vLLM's ``logprob_token_ids``, or
      by a second call, of one token, SGLang's ``token_ids_logprob``.
    - ``logprobs``: the log-probabilities of the reply. ``top_logprobs`` are asked for at each token: OpenAI and vLLM
      allow 20, llama.cpp as many as its vocabulary has, which leaves nothing to bound.
    - ``logprobs_prefill``: a second call, of one token, goes on from the reply's answer tag. It needs a server that
      continues an assistant's message: vLLM, SGLang or llama.cpp.
    - ``sampling``: the share of yes in ``samples`` further replies at temperature 1; any server can do it. Before
      ``logprobs``, it is the mean of what the log-probabilities of these replies say.
    - ``verbalized``: a second call in which the model states a probability. The weakest.

    ``prior`` asks about every pair once more, before it and without a rationale, which fills ``delta_prior``: another
    quantity than the margin after one, and far cheaper.

    - ``prefill``: one token, by which the model goes on from ``<answer>``; it needs what ``logprobs_prefill`` needs.
    - ``systemone``: the server's endpoint of that name (transformers serve, vLLM, SGLang).
    - ``decisions``: OpenAI's endpoint of that name.

    ``context_tokens`` is how much the model reads and writes at a time: evidence is cut further where a prompt is
    estimated to leave no room for ``max_tokens``.

    ``served`` is what the server was found to serve of all that (see ``fitted``). No recipe needs to say it.
    """

    takes_batches: ClassVar[bool] = True

    json_schema: bool = True
    confidence: tuple[Rung, ...] = ("logprobs",)
    top_logprobs: int = 20
    samples: int = 8
    prior: PriorWay | None = None
    context_tokens: int | None = None
    served: Served = Served()

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct = len(set(self.confidence)) == len(self.confidence)
        require(distinct, "confidence must name each source once", list(self.confidence))
        require(self.top_logprobs >= 1, "top_logprobs must be at least 1", self.top_logprobs)
        require(self.samples >= 2, "samples must be at least 2", self.samples)
        room = self.prompt_tokens is None or self.prompt_tokens > 0
        require(room, "context_tokens must be more than max_tokens", self.context_tokens)

    @property
    def ladder(self) -> Ladder:
        """See ``TeacherEngine``."""
        served = self.served
        return Ladder(self.confidence, self.samples, self.prior, served.lacking, tells_logprobs=served.logprobs)

    @property
    def prompt_tokens(self) -> int | None:
        """See ``TeacherEngine``."""
        return None if self.context_tokens is None else self.context_tokens - (self.max_tokens or 0)

    def fitted(self, task: Task) -> tuple[OpenAiTeacher, Capabilities]:
        """See ``TeacherEngine``; raises what ``probe_writer`` and ``probe_judge`` do.

        Neither the stamp nor what is first asked about a pair changes: replies of earlier runs stay good.
        """
        if task == "judge":
            found = probe_judge(self, self.top_logprobs, exact="logprobs_exact" in self.confidence)
            teacher, lacks = _without(self, found)
        else:
            found = probe_writer(self, self.json_schema)
            teacher = replace(self, served=Served(schema_bounds=found.schema_bounds != "refused"))
            lacks = _lacks_of_writer(self, found)
        lacks += _lacks_of_context(self, found)
        return teacher, replace(found, lacks=f"{found.server} {'; '.join(lacks)}" if lacks else "")

    def check(self) -> None:
        """Ask the servers for their models, so that a wrong address or key shows before any work starts.

        Raises:
            EngineError: there is no key, a server refuses it, or none answers.
        """
        ChatClient(self).check()

    def load(self) -> ServedTeacher:
        return ServedTeacher(self, ChatClient(self))

    def batch_body(self, request: TeacherRequest) -> dict[str, Any] | None:
        """See ``TeacherEngine``."""
        if request.prior in ENDPOINTS:
            return None
        messages, parameters = _call(self, request)
        return self.request(messages, **parameters)

    def stamp(self) -> EngineStamp:
        # The ladder changes no reply: it decides which are asked for, and each says so of itself. Nor does the context:
        # what it changes of a prompt is in the prompt's hash.
        return self.stamp_as("openai", apart_from=("confidence", "samples", "prior", "context_tokens", "served"))


class ServedTeacher(Teacher):
    """Asks the server; one call a request."""

    def __init__(self, options: OpenAiTeacher, client: ChatClient) -> None:
        self._options = options
        self._client = client

    @property
    def ladder(self) -> Ladder:
        """See ``Teacher``."""
        return self._options.ladder

    @property
    def prompt_tokens(self) -> int | None:
        """See ``TeacherEngine``."""
        return self._options.prompt_tokens

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The server's reply to the request's prompt. Raises ``TeacherFailed`` and ``EngineError``, see the client."""
        if endpoint := ENDPOINTS.get(request.prior or ""):
            body = endpoint.body(self._options.model, request.prompt)
            try:
                return self._client.post(endpoint.path, body, endpoint.read, "decision")
            except EngineError as error:
                hint = f"where the server has no {endpoint.path}, set the option prior to prefill or null"
                raise EngineError(f"{error}; {hint}") from error
        messages, parameters = _call(self._options, request)
        served = self._options.served
        if request.confidence == "logprobs_exact" and served.exact_ids and served.exact_by == "token_ids_logprob":
            return ask_exactly(self._client, self._options.request(messages, **parameters), served.exact_ids)
        reply = self._client.complete(messages, **parameters)
        if "logprob_token_ids" not in parameters:
            return reply
        asked = len(parameters["logprob_token_ids"])
        tokens = (replace(token, complete=tells_all(token, asked)) for token in reply.tokens)
        return replace(reply, tokens=tuple(tokens))


def _call(options: OpenAiTeacher, request: TeacherRequest) -> tuple[list[dict[str, str]], dict[str, Any]]:
    """The messages and further parameters of the chat completions call that asks a request."""
    messages = [
        {"role": "system", "content": request.prompt.system},
        {"role": "user", "content": request.prompt.user},
    ]
    if request.said:
        messages.append({"role": "assistant", "content": request.said})
    if request.follow_up:
        messages.append({"role": "user", "content": request.follow_up})
    parameters: dict[str, Any] = {"seed": request.seed}
    if request.writes and options.json_schema:
        form = _form(request)
        schema = form if options.served.schema_bounds else without_bounds(form)
        named = {"name": "queries", "strict": True, "schema": schema}
        parameters["response_format"] = {"type": "json_schema", "json_schema": named}
    none_told = {"logprobs", "logprobs_prefill"} <= set(options.served.lacking)  # asked for them, a server may refuse
    by_reply = options.served.exact_by == "logprob_token_ids"
    if request.confidence == "logprobs_exact" and options.served.exact_ids and by_reply:
        parameters.update(logprobs=True, logprob_token_ids=list(options.served.exact_ids))
    elif request.asks_for_logprobs and not none_told:
        parameters.update(logprobs=True, top_logprobs=options.served.top_logprobs or options.top_logprobs)
    if request.confidence == "logprobs_prefill" or request.prior == "prefill":
        parameters.update(max_tokens=1, **CONTINUE)
        # Some servers report log-probabilities as the temperature left them: at 1 they are the model's.
        parameters.update(temperature=1.0)
    if request.confidence == "sampling":
        parameters.update(temperature=1.0)
    return messages, parameters


def _form(request: TeacherRequest) -> dict[str, Any]:
    """The JSON schema of the reply to a request to write."""
    if request.task == "negative_queries":
        return negatives_schema(request.count)
    kinds = request.task == "write_requests", request.task == "write_events"
    return reply_schema(request.evidence.present, request.count, *kinds)


def _lacks_of_writer(options: OpenAiTeacher, found: Capabilities) -> list[str]:
    lacks = []
    if options.json_schema and found.json_schema == "ignored":
        lacks.append("ignores JSON schemas: replies are parsed all the same, and asked for again where they do not fit")
    if found.schema_bounds == "refused":
        lacks.append("refuses a JSON schema that bounds strings and lists: they are left without an end")
    return lacks


def _lacks_of_context(options: OpenAiTeacher, found: Capabilities) -> list[str]:
    lacks = []
    if found.context_tokens and found.context_tokens <= (options.max_tokens or 0):
        lacks.append(f"has a context of {found.context_tokens} tokens, which max_tokens ({options.max_tokens}) fills")
    if found.reads_tokens:
        lacks.append(
            f"reads only {found.reads_tokens} tokens of a longer prompt and says nothing: start it with a larger "
            "context, or set context_tokens and max_tokens to what it has"
        )
    return lacks


def _without(options: OpenAiTeacher, found: Capabilities) -> tuple[OpenAiTeacher, list[str]]:
    """The judge without the rungs that its server lacks, and why."""
    why: dict[Rung, str] = {}
    if found.logprobs in ("ignored", "refused"):
        why["logprobs"] = why["logprobs_prefill"] = f"gives no log-probabilities ({found.logprobs})"
    elif options.temperature not in (None, 1.0) and found.logprobs_mode == "processed":
        why["logprobs"] = (
            f"gives log-probabilities of temperature {options.temperature:g} instead of 1 (temperature: 1 is safe)"
        )
    elif options.temperature not in (None, 1.0) and found.logprobs_mode == "unknown":
        why["logprobs"] = (
            f"did not show whether its log-probabilities follow the temperature, which is {options.temperature:g} "
            "(temperature: 1 is safe)"
        )
    if found.prefill in ("ignored", "refused"):
        why.setdefault("logprobs_prefill", f"does not go on from the start of an answer ({found.prefill})")
    if "logprobs_exact" in options.confidence:
        chosen = f"does not tell the log-probabilities of chosen tokens ({found.logprobs_exact})"
        if found.logprobs_exact != "yes":
            why["logprobs_exact"] = why.get("logprobs", chosen)
        elif "logprobs" in why and (found.logprobs != "yes" or found.exact_by != "token_ids_logprob"):
            why["logprobs_exact"] = why["logprobs"]  # SGLang's call is one of its own, at temperature 1
    lacks = []
    if lost := [rung for rung in options.confidence if rung in why]:
        left = [rung for rung in options.confidence if rung not in why]
        instead = f"come from {', then '.join(left)}" if left else "are null"
        reasons = ", ".join(dict.fromkeys(why[rung] for rung in lost))
        lacks.append(f"{reasons}: margins {instead} instead of from {', '.join(lost)}")
    if options.prior == "prefill" and "logprobs_prefill" in why:
        options = replace(options, prior=None)
        lacks.append(f"{why['logprobs_prefill']}: delta_prior is null")
    if found.top_logprobs is not None:
        told = f"{found.top_logprobs} of {options.top_logprobs}"
        lacks.append(f"allows only {told} alternatives of a token: the intervals of margins are wider")
    elif found.alternatives is not None and found.alternatives < options.top_logprobs:
        told = f"{found.alternatives} of {options.top_logprobs}"
        lacks.append(f"reports only {told} alternatives of a token: the intervals of margins are wider")
    served = Served(
        tuple(why),
        logprobs=found.logprobs == "yes",
        top_logprobs=found.top_logprobs,
        exact_ids=found.exact_ids if "logprobs_exact" in options.confidence else None,
        exact_by=found.exact_by,
    )
    return replace(options, served=served), lacks
