"""A teacher behind an OpenAI-compatible server: writes queries against a JSON schema, judges with log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from prompts.write_queries import reply_schema
from schemas.check import require
from schemas.video import EngineStamp
from transforms.engines.openai_chat import ChatClient, ChatOptions
from transforms.engines.protocols import Ladder, TeacherReply, TeacherRequest

Rung = Literal["logprobs", "logprobs_prefill", "sampling", "verbalized"]


@dataclass(frozen=True, kw_only=True)
class OpenAiTeacher(ChatOptions):
    """Options of the teacher.

    ``json_schema: false`` is for servers that cannot constrain a reply. ``confidence`` lists where the confidence of a
    judgement may come from, tried in this order until one gives a margin; with an empty list it is label-only.

    - ``logprobs``: the log-probabilities of the reply. ``top_logprobs`` are asked for at each token: OpenAI and vLLM
      allow 20, llama.cpp as many as its vocabulary has, which leaves nothing to bound.
    - ``logprobs_prefill``: a second call, of one token, goes on from the reply's answer tag. It needs a server that
      continues an assistant's message: vLLM, SGLang or llama.cpp.
    - ``sampling``: the share of yes in ``samples`` further replies at temperature 1; any server can do it.
    - ``verbalized``: a second call in which the model states a probability. The weakest.
    """

    json_schema: bool = True
    confidence: tuple[Rung, ...] = ("logprobs",)
    top_logprobs: int = 20
    samples: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        distinct = len(set(self.confidence)) == len(self.confidence)
        require(distinct, "confidence must name each source once", list(self.confidence))
        require(self.top_logprobs >= 1, "top_logprobs must be at least 1", self.top_logprobs)
        require(self.samples >= 2, "samples must be at least 2", self.samples)

    @property
    def ladder(self) -> Ladder:
        """See ``TeacherEngine``."""
        return Ladder(self.confidence, self.samples)

    def load(self) -> ServedTeacher:
        return ServedTeacher(self, ChatClient(self))

    def stamp(self) -> EngineStamp:
        # The ladder changes no reply: it decides which are asked for, and each says so of itself.
        return self.stamp_as("openai", apart_from=("confidence", "samples"))


class ServedTeacher:
    """Asks the server; one call a request."""

    def __init__(self, options: OpenAiTeacher, client: ChatClient) -> None:
        self._options = options
        self._client = client

    @property
    def ladder(self) -> Ladder:
        """See ``Teacher``."""
        return self._options.ladder

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The server's reply to the request's prompt. Raises ``TeacherFailed`` and ``EngineError``, see the client."""
        messages = [
            {"role": "system", "content": request.prompt.system},
            {"role": "user", "content": request.prompt.user},
        ]
        if request.said:
            messages.append({"role": "assistant", "content": request.said})
        if request.follow_up:
            messages.append({"role": "user", "content": request.follow_up})
        parameters: dict[str, Any] = {"seed": request.seed}
        if request.task == "write_queries" and self._options.json_schema:
            schema = {"name": "queries", "strict": True, "schema": reply_schema(request.evidence.present)}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.confidence in ("logprobs", "logprobs_prefill"):
            parameters.update(logprobs=True, top_logprobs=self._options.top_logprobs)
        if request.confidence == "logprobs_prefill":
            # vLLM and SGLang are told to go on from the last message; llama.cpp does so whenever it is the assistant's.
            parameters.update(max_tokens=1, continue_final_message=True, add_generation_prompt=False)
        if request.confidence == "sampling":
            parameters.update(temperature=1.0)
        return self._client.complete(messages, **parameters)
