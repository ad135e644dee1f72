"""First stage: BM25 over the evidence's words, with the bm25s library."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from schemas.candidates import Candidates
from schemas.check import require, require_fraction
from schemas.video import EngineStamp
from transforms.protocols.engine import stamp_of
from transforms.text.words import content_words, stem


@dataclass(frozen=True)
class Bm25:
    """BM25 with the defaults of bm25s: Lucene's variant, k1 1.5, b 0.75 (Lu 2024, arXiv 2407.03618).

    The library's other two variants, BM25L and BM25+, are left out: they score documents that share no word with the
    query, and here such a document is not retrieved.
    """

    requires: ClassVar[tuple[str, ...]] = ()  # bm25s belongs to the core
    extra: ClassVar[str] = ""

    k1: float = 1.5
    b: float = 0.75
    method: Literal["lucene", "robertson", "atire"] = "lucene"

    def __post_init__(self) -> None:
        require(self.k1 > 0, "k1 must be above zero", self.k1)
        require_fraction("b", self.b)

    def load(self) -> Bm25Indexer:
        """The indexer; there is no model to load."""
        return Bm25Indexer(self)

    def stamp(self) -> EngineStamp:
        """Stamped with the version of bm25s."""
        return stamp_of(self, "bm25", "bm25s")


@dataclass(frozen=True)
class Bm25Indexer:
    """Builds a BM25 index."""

    options: Bm25

    def index(self, documents: Iterable[tuple[str, str]]) -> Bm25Index:
        """Index (video_id, text) pairs, in any order.

        Raises:
            ValueError: an id occurs twice.
        """
        import bm25s

        ordered = sorted(documents)
        ids = [video_id for video_id, _ in ordered]
        if len(set(ids)) < len(ids):
            raise ValueError(f"video {next(a for a, b in pairwise(ids) if a == b)!r} occurs twice")
        tokens = [_tokens(text) for _, text in ordered]
        if not any(tokens):
            return Bm25Index(ids, None)
        # 64 bits, so that equal evidence gets equal scores and unequal evidence does not get them by rounding.
        scorer = bm25s.BM25(k1=self.options.k1, b=self.options.b, method=self.options.method, dtype="float64")
        scorer.index(tokens, show_progress=False)
        return Bm25Index(ids, scorer)


@dataclass(frozen=True)
class Bm25Index:
    """A BM25 index over the videos ``ids`` (sorted); ``scorer`` is None where no document has a word.

    Searching changes nothing, so that threads may share an index.
    """

    ids: Sequence[str]
    scorer: Any

    def search(self, query_id: str, text: str, depth: int) -> Candidates:
        """The ``depth`` best videos that share a word with ``text``, best first, ties by video id."""
        tokens = _tokens(text)
        if not tokens or self.scorer is None:
            return Candidates()
        scores = self.scorer.get_scores(tokens)
        found = np.flatnonzero(scores > 0)
        best = found[np.argsort(-scores[found], kind="stable")][:depth]
        return Candidates((self.ids[i] for i in best), scores[best])


def _tokens(text: str) -> list[str]:
    return [stem(word) for word in content_words(text)]
