"""What a first-stage retriever can do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

from schemas.query import Candidate
from transforms.protocols.engine import Engine


class FirstStage(Protocol):
    """A loaded first-stage retriever over a fixed set of documents."""

    def search(self, query_id: str, text: str, depth: int) -> Sequence[Candidate]:
        """The ``depth`` best videos, best first, ties by video id. Empty where the retriever knows no answer."""


class FirstStageEngine(Engine, Protocol):
    """A first stage is loaded over documents: ``load()`` returns an indexer.

    One that does not read their texts (``reads_text``) needs only to know which videos there are.
    """

    reads_text: ClassVar[bool]

    def load(self) -> Indexer: ...


class Indexer(Protocol):
    """Builds the first stage's index."""

    def index(self, documents: Iterable[tuple[str, str]]) -> FirstStage:
        """A first stage over (video_id, text) pairs; the result does not depend on their order."""
