"""What a teacher is asked, what it answers, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from prompts.template import Prompt
from schemas.capabilities import Capabilities
from schemas.query import ConfidenceSource
from schemas.token import Token
from schemas.usage import Usage
from schemas.video import Evidence
from transforms.protocols.engine import Engine


@runtime_checkable
class Fits(Protocol):
    """Options of a teacher whose server may lack what they ask for."""

    def fitted(self, task: Task) -> tuple[TeacherEngine, Capabilities]:
        """A teacher that asks its server for what it can do, and what was found of the server, which is asked.

        The stamp is the same. Raises ``EngineError`` where the server cannot serve the task.
        """


@runtime_checkable
class Bounded(Protocol):
    """A teacher, or its engine, that states how much its model reads at a time."""

    @property
    def prompt_tokens(self) -> int | None:
        """The most tokens of a prompt that leave room for the reply; None where that is not known."""


@runtime_checkable
class Batched(Protocol):
    """Options of a teacher whose questions can also be put into a file, for a server to answer later."""

    def batch_body(self, request: TeacherRequest) -> dict[str, Any] | None:
        """The body of the chat completions call that asks this; None for what is asked at another endpoint."""


@runtime_checkable
class Constrained(Protocol):
    """Options of a teacher whose server can hold what is written to the JSON schema of its prompt."""

    @property
    def json_schema(self) -> bool:
        """Whether it is asked to."""


Task = Literal["write_queries", "judge"]
PriorWay = Literal["prefill", "systemone", "decisions"]
"""How a teacher answers without a rationale: it goes on from the answer tag, or a decision endpoint of its server."""


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One question to the teacher: the rendered prompt, and its content as records for teachers that read no prose.

    ``evidence`` holds only the modalities this question may use. ``query`` is set for "judge", ``count`` for
    "write_queries". ``seed`` makes a repeated question reproducible where the server supports it. ``subject`` says what
    the question is about, for people.

    ``confidence`` is what the reply is to tell beyond its words: "logprobs" asks for log-probabilities,
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


@dataclass(frozen=True, slots=True)
class TeacherReply:
    """What came back: the text, its tokens where the server reports log-probabilities, and what it is billed for.

    ``p_yes`` is the probability of yes where the teacher states one instead of writing an answer. ``truncated`` says
    that the server stopped it at its token limit, ``refused`` that the model declined to answer, in the words of the
    text, or that the server filtered the answer.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    usage: Usage | None = None
    truncated: bool = False
    refused: bool = False
    p_yes: float | None = None


class TeacherFailed(RuntimeError):
    """The teacher could not be asked, or did not answer in a form that can be read at all.

    ``permanent`` says that the same request will fare no better later: it was refused for good, not merely unlucky.
    ``usage`` is what was asked of the server all the same, None where there is none.
    """

    def __init__(self, message: str, *, permanent: bool = False, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.usage = usage


class ContextOverflow(TeacherFailed):
    """The prompt, with the reply that it asks for, is longer than what the teacher reads at a time."""

    def __init__(self, message: str, *, permanent: bool = True, usage: Usage | None = None) -> None:
        super().__init__(message, permanent=permanent, usage=usage)


@dataclass(frozen=True, slots=True)
class Ladder:
    """Where the confidence of a judgement may come from, tried in order; "sampling" draws ``samples`` replies.

    ``prior`` is the way in which every pair is also asked about without a rationale, None where it is not. ``lacking``
    are rungs that the server turned out not to serve: they are passed over.
    """

    rungs: tuple[ConfidenceSource, ...]
    samples: int = 0
    prior: PriorWay | None = None
    lacking: tuple[ConfidenceSource, ...] = ()


class Teacher(Protocol):
    """A loaded teacher."""

    @property
    def ladder(self) -> Ladder: ...

    def reply(self, request: TeacherRequest) -> TeacherReply:
        """Answer one request. Raises ``TeacherFailed`` when there is no answer."""


class TeacherEngine(Engine, Protocol):
    """Options of a teacher; its ladder is known without loading it."""

    @property
    def ladder(self) -> Ladder: ...

    def load(self) -> Teacher: ...
