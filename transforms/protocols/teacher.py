"""What a teacher is asked, what it answers, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from prompts.template import Prompt
from schemas.capabilities import Capabilities
from schemas.query import ConfidenceSource
from schemas.token import Token
from schemas.usage import Usage
from schemas.video import Evidence
from transforms.protocols.engine import Engine

Task = Literal["write_queries", "write_requests", "write_events", "negative_queries", "judge"]
PriorWay = Literal["prefill", "systemone", "decisions"]
"""How a teacher answers without a rationale: it goes on from the answer tag, or a decision endpoint of its server."""


_LOGPROBS: tuple[ConfidenceSource, ...] = ("logprobs_exact", "logprobs", "logprobs_prefill")


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One question to the teacher: the rendered prompt, and its content as records for teachers that read no prose.

    ``evidence`` holds only the modalities this question may use. ``query`` is set for "judge" and "negative_queries",
    ``count`` for what writes. ``seed`` makes a repeated question reproducible where the server supports it. ``subject``
    says what the question is about, for people.

    ``confidence`` is what the reply is to tell beyond its words: "logprobs" asks for log-probabilities,
    "logprobs_exact" for those of every token that spells yes or no,
    "logprobs_prefill" for those of the one token by which the teacher goes on from ``said``, the start of its own
    answer; "sampling" for an answer drawn at temperature 1, with log-probabilities where ``logprobs``; "verbalized" for
    one to ``follow_up``, the question that follows the answer ``said``; "prior" for an answer without a rationale, in
    the way ``prior``.
    """

    task: Task
    prompt: Prompt
    evidence: Evidence
    query: str = ""
    count: int = 0
    seed: int = 0
    subject: str = ""
    confidence: ConfidenceSource = "label_only"
    said: str = ""
    follow_up: str = ""
    logprobs: bool = False
    prior: PriorWay | None = None

    @property
    def writes(self) -> bool:
        """Whether the reply is to hold queries."""
        return self.task != "judge"

    @property
    def asks_for_logprobs(self) -> bool:
        """Whether the reply is to hold log-probabilities."""
        return self.logprobs or self.prior == "prefill" or self.confidence in _LOGPROBS


@dataclass(frozen=True, slots=True)
class TeacherReply:
    """What came back: the text, its tokens where the server reports log-probabilities, and what it is billed for.

    ``p_yes`` is the probability of yes where the teacher states one instead of writing an answer. ``truncated`` says
    that the server stopped it at its token limit, ``refused`` that the model declined to answer, in the words of the
    text, or that the server filtered the answer. ``seed`` is the one that was sent, where it is not the request's own.
    ``bare`` says that the reply came without tokens from a teacher that was seen to report them.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    usage: Usage | None = None
    truncated: bool = False
    refused: bool = False
    p_yes: float | None = None
    seed: int | None = None
    bare: bool = False


class TeacherFailed(RuntimeError):
    """The teacher could not be asked, or did not answer in a form that can be read at all.

    ``permanent`` says that the same request will fare no better later: it was refused for good, not merely unlucky.
    ``refused`` says so of a server that would not take the request, and may mean more than this one. ``usage`` is what
    was asked of the server all the same, None where there is none.
    """

    refused: ClassVar[bool] = False

    def __init__(self, message: str, *, permanent: bool = False, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.usage = usage


class ContextOverflow(TeacherFailed):
    """The prompt, with the reply that it asks for, is longer than what the teacher reads at a time."""

    def __init__(self, message: str, *, permanent: bool = True, usage: Usage | None = None) -> None:
        super().__init__(message, permanent=permanent, usage=usage)


class RequestRefused(TeacherFailed):
    """The server takes no such request (HTTP 400 and the like)."""

    refused: ClassVar[bool] = True

    def __init__(self, message: str, *, permanent: bool = True, usage: Usage | None = None) -> None:
        super().__init__(message, permanent=permanent, usage=usage)


class ServerFailed(TeacherFailed):
    """The server answered the last attempt with an error of its own (HTTP 429, 5xx), or with what cannot be read."""


class ServerSilent(TeacherFailed):
    """The last attempt had no answer at all: no connection, or none in time."""


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where the confidence of a judgement may come from, tried in order; "sampling" draws ``samples`` replies.

    ``prior`` is the way in which every pair is also asked about without a rationale, None where it is not. ``lacking``
    are rungs that the server turned out not to serve: they are passed over. ``tells_logprobs`` says that the server was
    seen to report log-probabilities.
    """

    rungs: tuple[ConfidenceSource, ...]
    samples: int = 0
    prior: PriorWay | None = None
    lacking: tuple[ConfidenceSource, ...] = ()
    tells_logprobs: bool = False


class Teacher(Protocol):
    """A loaded teacher."""

    @property
    def ladder(self) -> Ladder: ...

    @property
    def prompt_tokens(self) -> int | None:
        """The most tokens of a prompt that leave room for the reply; None where that is not known."""
        return None

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """Answer one request. Raises ``TeacherFailed`` when there is no answer."""


class TeacherEngine(Engine, Protocol):
    """Options of a teacher; its ladder is known without loading it. What has a body here is that of a teacher without a
    server, and inherited.
    """

    takes_batches: ClassVar[bool] = False
    """Whether its questions can also be put into a file, for a server to answer later."""

    @property
    def ladder(self) -> Ladder: ...

    @property
    def prompt_tokens(self) -> int | None:
        """See ``Teacher``."""
        return None

    @property
    def json_schema(self) -> bool:
        """Whether what it writes is to be held to the JSON schema of its prompt."""
        return False

    def load(self) -> Teacher: ...

    def fitted(self, task: Task) -> tuple[TeacherEngine, Capabilities | None]:
        """A teacher that asks its server for what it can do, and what was found of the server, which is asked.

        The stamp is the same. Raises ``EngineError`` where the teacher, or its server, cannot do the task.
        """
        return self, None

    def batch_body(self, request: TeacherRequest) -> dict[str, Any] | None:
        """The body of the chat completions call that asks this; None for what is not asked in one."""
        return None
