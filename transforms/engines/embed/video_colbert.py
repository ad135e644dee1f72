"""An embedder of queries and frames that is trained here: Video-ColBERT, several vectors each, two levels a video."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np

from schemas.check import require_text
from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.protocols.embed import Embedding
from transforms.protocols.engine import EngineError, version_of
from transforms.protocols.frames import Frame

_NAME = "video_colbert"


@dataclass(frozen=True, kw_only=True)
class VideoColbert:
    """Video-ColBERT (Reddy et al. 2025, arXiv 2503.19009): ``model`` is what `hardquery train retriever` wrote.

    A query has a vector for each token, those of its padding included. A video has its frames' vectors, and those of
    frames and expansion tokens behind a temporal transformer, in which the order of frames counts and their times do
    not. Of more frames than the model was trained with, those are taken that are evenly spread.
    """

    requires: ClassVar[tuple[str, ...]] = ("torch", "transformers", "torchvision")
    extra: ClassVar[str] = "train"
    reads: ClassVar[Literal["frames"]] = "frames"

    model: str
    device: str | None = None

    def __post_init__(self) -> None:
        require_text("model", self.model)

    def check(self) -> None:
        """Make sure that the model is there. Raises ``EngineError`` where it is not."""
        _content_hash(self.model)

    def load(self) -> VideoColbertEmbedder:
        """The model on its device. Raises ``EngineError`` where it cannot be loaded."""
        from trainer.retriever.encoder import load_encoder

        try:
            return VideoColbertEmbedder(load_encoder(self.model, self.device))
        except ValueError as error:
            raise EngineError(f"engine {_NAME!r}: {error}") from error

    def stamp(self) -> EngineStamp:
        """Both sides. The model is named by its content: a folder that was moved gives the same vectors."""
        return self._stamp()

    def query_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``. A model has its weights in one file, so both sides' stamps know all of it."""
        return self._stamp("query")

    def document_stamp(self) -> EngineStamp:
        """See ``EmbedEngine``."""
        return self._stamp("document")

    def _stamp(self, *side: str) -> EngineStamp:
        release, content = version_of("transformers"), _content_hash(self.model)
        return EngineStamp(_NAME, release, content, fingerprint([_NAME, release, content, *side]))


class VideoColbertEmbedder:
    """A model and its processor; one item at a time."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self._computing = threading.Lock()

    def embed_query(self, text: str) -> Embedding:
        """A vector a token; of a text above the model's length, its start."""
        with self._computing:
            return Embedding.of(self._encoder.query(text))

    def embed_text(self, text: str) -> Embedding:
        """It reads frames. Raises ``TypeError``."""
        raise TypeError(f"{_NAME} reads the frames of a video, and no text of it")

    def embed_frames(self, frames: Sequence[Frame]) -> Embedding:
        """The vectors of each level."""
        with self._computing:
            levels = self._encoder.video([frame.image for frame in frames])
        return Embedding.of(np.concatenate(levels), [len(level) for level in levels])


@cache
def _content_hash(model: str) -> str:
    from trainer.retriever.folder import content_hash

    try:
        return content_hash(model)
    except (ValueError, OSError) as error:
        raise EngineError(f"engine {_NAME!r}: {error}") from error
