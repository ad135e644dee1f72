"""What an engine of each modality can do; every adapter in this folder implements one of these.

An engine comes in two halves. The *engine* is a frozen dataclass of options: cheap, hashable, picklable, importable
without its heavy library. ``load()`` imports the library and returns the *model* that does the work, once a process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from prompts import Prompt
from schemas.account import Usage
from schemas.capabilities import Capabilities
from schemas.check import require
from schemas.query import Candidate, ConfidenceSource
from schemas.video import AsrSegment, Box, EngineStamp, Evidence, EvidenceWarning

Image = NDArray[np.uint8]  # [height, width, 3], RGB
Samples = NDArray[np.int16]  # [n], mono at 16 kHz
SAMPLE_RATE_HZ = 16_000


class Engine(Protocol):
    """Options of one engine, chosen by name in the recipe."""

    requires: ClassVar[tuple[str, ...]]  # importable module names
    extra: ClassVar[str]  # the optional extra of this project that installs them

    def load(self) -> Any:
        """Import the library, load the weights, return the model. Called once a process."""

    def stamp(self) -> EngineStamp:
        """Name, version, model and options' fingerprint, without loading anything heavy."""


@runtime_checkable
class Waits(Protocol):
    """Options of an engine that waits for a server instead of computing here, and is best asked much at a time."""

    @property
    def at_once(self) -> int:
        """How many threads of one process are to ask it at once."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame: its presentation time in seconds from the first frame, and its pixels."""

    time_s: float
    image: Image


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """What a sampler returns: the frames in time order, stream facts, and a warning for each thing that is partial.

    ``origin_s`` is the first frame's time on the container's clock, which the audio shares.
    """

    frames: tuple[Frame, ...]
    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    warnings: tuple[EvidenceWarning, ...] = ()
    origin_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FramePolicy:
    """Which frames to take and how large: at most ``max_frames``, spread evenly at no more than ``sample_fps``.

    ``max_side`` bounds the longer side in pixels, ``max_pixels`` refuses larger source frames before decoding them.
    """

    sample_fps: float = 1.0
    max_frames: int = 32
    max_side: int = 768
    max_pixels: int = 8192 * 8192
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        require(math.isfinite(self.sample_fps) and self.sample_fps > 0, "sample_fps must be above 0", self.sample_fps)
        for name in ("max_frames", "max_side", "max_pixels"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        require(1 <= self.jpeg_quality <= 100, "jpeg_quality must lie in [1, 100]", self.jpeg_quality)


class FrameSampler(Protocol):
    """A loaded decoder of pictures."""

    def sample(self, path: str, policy: FramePolicy) -> SampledFrames:
        """Frames of the local file at ``path``. Raises ``NoVideoStream`` or ``UndecodableVideo`` (see decode.py)."""


class SpeechRecognizer(Protocol):
    """A loaded ASR model."""

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        """Segments of each window (at most 30 s), times in seconds from the window's start, in window order."""


@dataclass(frozen=True, slots=True)
class TextBox:
    """One line of text that OCR found in one image."""

    text: str
    box: Box
    confidence: float


class TextReader(Protocol):
    """A loaded OCR model."""

    def read(self, images: Sequence[Image]) -> list[list[TextBox]]:
        """The lines of each image, top to bottom then left to right, in image order."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What a captioner said of a video; ``usage`` is None where nothing is billed, or the server does not say."""

    text: str
    usage: Usage | None = None


class Captioner(Protocol):
    """A loaded captioner."""

    def caption(self, frames: Sequence[Frame]) -> Caption:
        """A factual description of the video that these frames (time order, at least one) were sampled from."""


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

    @property
    def asks_for_logprobs(self) -> bool:
        """Whether the reply is to hold log-probabilities."""
        return self.logprobs or self.prior == "prefill" or self.confidence in ("logprobs", "logprobs_prefill")


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a reply with its log-probability and the most likely alternatives, all as (bytes, log-probability).

    ``complete`` says of a decision between yes and no that every token which spells a word is among the alternatives.
    """

    text: bytes
    logprob: float
    alternatives: tuple[tuple[bytes, float], ...] = ()
    complete: bool = False


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
    """The server answered every attempt with an error of its own (HTTP 429, 5xx), or with what cannot be read."""


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

    def load(self) -> Teacher: ...

    def fitted(self, task: Task) -> tuple[TeacherEngine, Capabilities | None]:
        """A teacher that asks its server for what it can do, and what was found of the server, which is asked.

        The stamp is the same. Raises ``EngineError`` where the teacher, or its server, cannot do the task.
        """
        return self, None

    def batch_body(self, request: TeacherRequest) -> dict[str, Any] | None:
        """The body of the chat completions call that asks this; None for what is not asked in one."""
        return None


class FirstStage(Protocol):
    """A loaded first-stage retriever over a fixed set of documents."""

    def search(self, query_id: str, text: str, depth: int) -> list[Candidate]:
        """The ``depth`` best videos, best first, ties by video id. Empty where the retriever knows no answer."""


class FirstStageEngine(Engine, Protocol):
    """A first stage is loaded over documents: ``load()`` returns an indexer."""

    def load(self) -> Indexer: ...


class Indexer(Protocol):
    """Builds the first stage's index."""

    def index(self, documents: Iterable[tuple[str, str]]) -> FirstStage:
        """A first stage over (video_id, text) pairs; the result does not depend on their order."""
