"""What an embedder can do: vectors of queries and of videos in one space, scored by MeanMaxSim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from schemas.check import require
from schemas.usage import Usage
from schemas.video import EngineStamp
from transforms.protocols.engine import Engine
from transforms.protocols.frames import Frame
from transforms.protocols.speech import Samples

Reads = Literal["text", "frames"]


@dataclass(frozen=True, eq=False)
class Embedding:
    """The vectors of one query or one document: float32 [n, dims], each of length 1.

    ``levels`` are the numbers of rows of each level, in order; a query has one level. The score of a document is the
    sum over its levels of MeanMaxSim, 1/M sum_j max_i q_j . x_i (Video-ColBERT, arXiv 2503.19009), which for single
    vectors is the cosine. ``usage`` is what a server counted.
    """

    vectors: NDArray[np.float32]
    levels: tuple[int, ...]
    usage: Usage | None = None

    def __post_init__(self) -> None:
        require(self.vectors.dtype == np.float32 and self.vectors.ndim == 2, "vectors are float32 [n, dims]", None)
        require(min(self.levels, default=0) >= 1, "every level has a vector", self.levels)
        rows = len(self.vectors)
        require(sum(self.levels) == rows, "levels count all vectors", (self.levels, rows))

    @classmethod
    def of(cls, vectors: NDArray[np.floating], levels: Sequence[int] = (), usage: Usage | None = None) -> Embedding:
        """Vectors of any length [n, dims] (or one, [dims]) brought to length 1; one level unless ``levels`` says more.

        Raises:
            ValueError: a vector is zero or not finite: an engine that gives such has failed.
        """
        rows = np.atleast_2d(np.asarray(vectors, np.float64))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise ValueError("a vector is zero or not finite")
        return cls((rows / lengths).astype(np.float32), tuple(levels) or (len(rows),), usage)

    @property
    def dims(self) -> int:
        """The dimensions of the space."""
        return int(self.vectors.shape[1])


class Embedder(Protocol):
    """A loaded embedder. A result depends on the one input alone, never on others that are embedded beside it."""

    def embed_query(self, text: str) -> Embedding:
        """The vectors of a query."""

    def embed_text(self, text: str) -> Embedding:
        """The vectors of a document's text, which has words. Only of an engine that reads text."""

    def embed_frames(self, frames: Sequence[Frame]) -> Embedding:
        """The vectors of a video's frames, at least one, in time order. Only of an engine that reads frames."""


class HearingEmbedder(Embedder, Protocol):
    """A loaded embedder that hears."""

    def embed_frames_and_sound(self, frames: Sequence[Frame], sound: Samples) -> Embedding:
        """The vectors of a video's frames and of its sound, whose first sample is at the time 0 of the frames."""


@runtime_checkable
class Hears(Protocol):
    """Options of an embedder of frames that may be given the sound of a video beside them."""

    @property
    def sound_s(self) -> float:
        """How many seconds of it at most, from its beginning on; 0 for none."""


@runtime_checkable
class EmbedEngine(Engine, Protocol):
    """Options of an embedder. ``stamp()`` names both sides; each side has one of its own, for the journal's keys."""

    @property
    def reads(self) -> Reads:
        """What of a video it is given."""

    def query_stamp(self) -> EngineStamp:
        """Stamped with all that decides a query's vectors, and nothing that decides a document's alone."""

    def document_stamp(self) -> EngineStamp:
        """Stamped with all that decides a document's vectors, and nothing that decides a query's alone."""

    def load(self) -> Embedder: ...
