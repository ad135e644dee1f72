"""A teacher behind an OpenAI-compatible server: writes queries against a JSON schema, judges with log-probabilities."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from prompts.write_queries import reply_schema
from schemas.query import ConfidenceSource
from schemas.video import EngineStamp
from transforms.engines.openai_chat import ChatClient, ChatOptions
from transforms.engines.protocols import TeacherReply, TeacherRequest

_TOP_LOGPROBS = 20  # the most that the OpenAI API allows


@dataclass(frozen=True, kw_only=True)
class OpenAiTeacher(ChatOptions):
    """Options of the teacher.

    ``json_schema: false`` is for servers that cannot constrain a reply, ``logprobs: false`` for models that report no
    log-probabilities: every judgement is then label-only.
    """

    json_schema: bool = True
    logprobs: bool = True

    def load(self) -> ServedTeacher:
        return ServedTeacher(self, ChatClient(self))

    def stamp(self) -> EngineStamp:
        return self.stamp_as("openai")


class ServedTeacher:
    """Asks the server; one call a request."""

    confidence_source: ClassVar[ConfidenceSource] = "logprobs"

    def __init__(self, options: OpenAiTeacher, client: ChatClient) -> None:
        self._options = options
        self._client = client

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """The server's reply to the request's prompt. Raises ``TeacherFailed`` and ``EngineError``, see the client."""
        messages = [
            {"role": "system", "content": request.prompt.system},
            {"role": "user", "content": request.prompt.user},
        ]
        parameters: dict[str, Any] = {"seed": request.seed}
        if request.task == "write_queries" and self._options.json_schema:
            schema = {"name": "queries", "strict": True, "schema": reply_schema(request.evidence.present)}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.task == "judge" and self._options.logprobs:
            parameters.update(logprobs=True, top_logprobs=_TOP_LOGPROBS)
        return self._client.complete(messages, **parameters)
