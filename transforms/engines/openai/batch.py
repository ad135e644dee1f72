"""What a line of a batch's output or error file says: a reply, a failure, or that the question was not asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from schemas.check import read_json
from schemas.usage import Usage
from transforms.engines.openai.chat import BAD_GATEWAY
from transforms.engines.openai.completion import NoAnswer, read_completion
from transforms.engines.server.api_key import KeyKeeper
from transforms.engines.server.faults import Fault, FaultReader
from transforms.protocols.engine import EngineError
from transforms.protocols.teacher import ContextOverflow, ServerFailed, TeacherFailed, TeacherReply

_NOT_ASKED = ("batch_expired", "batch_cancelled")
_NULL = msgspec.Raw(b"null")
_REQUESTS = 1  # a batch does not tell how often it tried

Outcome = TeacherReply | TeacherFailed | EngineError | None
"""A failure of this one question, an error that every question would meet, or None where it was not asked."""


class _Response(msgspec.Struct):
    status_code: int
    body: msgspec.Raw = _NULL


class _Line(msgspec.Struct):
    custom_id: str
    response: _Response | None = None
    error: Any = None


class BatchReader:
    """Reads replies as the live client does, and cleans them of the key."""

    def __init__(self, key: str) -> None:
        self._keeper = KeyKeeper(key)
        self._faults = FaultReader(self._keeper, base_url="", key_option="", model="")

    def read(self, line: bytes) -> tuple[str, Outcome]:
        """The id of a question and what came of it, from a line as OpenAI and vLLM write it.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError: it is no such line.
        """
        try:
            said = read_json(line, _Line)
            return said.custom_id, self._outcome(said)
        except RecursionError as error:
            raise msgspec.DecodeError("nested too deeply") from error

    def _outcome(self, said: _Line) -> Outcome:
        response, error = said.response, said.error
        if response is None:
            return self._not_done(error)
        if response.status_code == 200:
            return self._reply(bytes(response.body)) if error is None else self._not_done(error)
        if isinstance(error, str):
            return self._broken(response.status_code, error)
        return self._fault(response.status_code, msgspec.json.decode(response.body) or error)

    def _reply(self, body: bytes) -> TeacherReply | TeacherFailed | EngineError:
        try:
            reply = read_completion(body)
        except NoAnswer as said:
            return self._outcome_of(self._faults.fault_within(BAD_GATEWAY, said.error))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _failed(f"the reply is no chat completion ({self._faults.line(error)})")
        return self._keeper.clean(replace(reply, usage=(reply.usage or Usage()).sent(_REQUESTS)))

    def _not_done(self, error: Any) -> TeacherFailed | None:
        code = error.get("code") if isinstance(error, Mapping) else None
        if code in _NOT_ASKED:
            return None
        said = error.get("message") if isinstance(error, Mapping) else error
        return _failed(self._faults.line(said or code or "no reply"))

    def _broken(self, status: int, error: str) -> TeacherFailed | EngineError:
        # vLLM's run-batch tells of whatever breaks in it as text with status 400: a lost GPU may be back next time.
        fault = self._fault(status, {"message": error})
        return fault if isinstance(fault, ContextOverflow) else _failed(self._faults.line(error))

    def _fault(self, status: int, body: Any) -> TeacherFailed | EngineError:
        return self._outcome_of(self._faults.fault(status, body))

    def _outcome_of(self, fault: Fault) -> TeacherFailed | EngineError:
        if isinstance(fault.final, TeacherFailed):
            fault.final.usage = Usage().sent(_REQUESTS)
            return fault.final
        return EngineError(fault.problem) if fault.final else _failed(fault.problem)


def _failed(problem: str) -> ServerFailed:
    return ServerFailed(problem, usage=Usage().sent(_REQUESTS))
