"""A teacher behind an OpenAI-compatible server: writes queries against a JSON schema, judges with log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from prompts.write_queries import reply_schema
from schemas.capabilities import Capabilities
from schemas.check import require
from schemas.video import EngineStamp
from transforms.engines.openai.chat import ChatClient
from transforms.engines.openai.decisions import ENDPOINTS
from transforms.engines.openai.options import ChatOptions
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import Ladder, PriorWay, Task, TeacherReply, TeacherRequest

Rung = Literal["logprobs", "logprobs_prefill", "sampling", "verbalized"]

CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
"""How vLLM and SGLang are told to go on from the last message; llama.cpp does so whenever it is the assistant's."""


@dataclass(frozen=True, kw_only=True)
class OpenAiTeacher(ChatOptions):
    """Options of the teacher.

    ``json_schema: false`` is for servers that cannot constrain a reply. ``confidence`` lists where the confidence of a
    judgement may come from, tried in this order until one gives a margin; with an empty list it is label-only.

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

    ``lacking`` are the rungs that the server turned out not to serve when the run began (see ``fitted``): they are
    passed over. No recipe needs to say it.
    """

    json_schema: bool = True
    confidence: tuple[Rung, ...] = ("logprobs",)
    top_logprobs: int = 20
    samples: int = 8
    prior: PriorWay | None = None
    context_tokens: int | None = None
    lacking: tuple[Rung, ...] = ()

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
        return Ladder(self.confidence, self.samples, self.prior, self.lacking)

    @property
    def prompt_tokens(self) -> int | None:
        """See ``Bounded``."""
        return None if self.context_tokens is None else self.context_tokens - (self.max_tokens or 0)

    def fitted(self, task: Task) -> tuple[OpenAiTeacher, Capabilities]:
        """See ``Fits``."""
        from transforms.engines.openai.probe import fitted

        return fitted(self, task)

    def check(self) -> None:
        """Ask the servers for their models, so that a wrong address or key shows before any work starts.

        Raises:
            EngineError: there is no key, a server refuses it, or none answers.
        """
        ChatClient(self).check()

    def load(self) -> ServedTeacher:
        return ServedTeacher(self, ChatClient(self))

    def batch_body(self, request: TeacherRequest) -> dict[str, Any] | None:
        """See ``Batched``."""
        if request.prior in ENDPOINTS:
            return None
        messages, parameters = _call(self, request)
        return self.request(messages, **parameters)

    def stamp(self) -> EngineStamp:
        # The ladder changes no reply: it decides which are asked for, and each says so of itself. Nor does the context:
        # what it changes of a prompt is in the prompt's hash.
        return self.stamp_as("openai", apart_from=("confidence", "samples", "prior", "context_tokens", "lacking"))


class ServedTeacher:
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
        """See ``Bounded``."""
        return self._options.prompt_tokens

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The server's reply to the request's prompt. Raises ``TeacherFailed`` and ``EngineError``, see the client."""
        if endpoint := ENDPOINTS.get(request.prior or ""):
            body = endpoint.body(self._options.model, request.prompt)
            try:
                return self._client.post(endpoint.path, body, endpoint.read)
            except EngineError as error:
                hint = f"where the server has no {endpoint.path}, set the option prior to prefill or null"
                raise EngineError(f"{error}; {hint}") from error
        messages, parameters = _call(self._options, request)
        return self._client.complete(messages, **parameters)


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
    if request.task == "write_queries" and options.json_schema:
        schema = {"name": "queries", "strict": True, "schema": reply_schema(request.evidence.present, request.count)}
        parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
    goes_on = request.confidence == "logprobs_prefill" or request.prior == "prefill"
    none_told = {"logprobs", "logprobs_prefill"} <= set(options.lacking)  # asked for them, a server may refuse
    if not none_told and (goes_on or request.confidence == "logprobs" or request.logprobs):
        parameters.update(logprobs=True, top_logprobs=options.top_logprobs)
    if goes_on:
        parameters.update(max_tokens=1, **CONTINUE)
        # Some servers report log-probabilities as the temperature left them: at 1 they are the model's.
        parameters.update(temperature=1.0)
    if request.confidence == "sampling":
        parameters.update(temperature=1.0)
    return messages, parameters
