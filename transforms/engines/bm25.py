"""First stage: BM25 over the evidence's words, with the bm25s library."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

import numpy as np

from schemas.check import require, require_fraction
from schemas.query import Candidates
from schemas.video import EngineStamp
from transforms.protocols.engine import stamp_of
from transforms.text.language import languages_of, script_of
from transforms.text.words import REVISION, bare, content_words, stem, words


@dataclass(frozen=True)
class Bm25:
    """BM25 with the defaults of bm25s: Lucene's variant, k1 1.5, b 0.75 (Lu 2024, arXiv 2407.03618).

    Each document is stemmed in its own language, a query in all languages that documents are in; besides, words that
    are the same but for their accents match. Function words are left out in English alone.

    The library's other two variants, BM25L and BM25+, are left out: they score documents that share no word with the
    query, and here such a document is not retrieved.
    """

    requires: ClassVar[tuple[str, ...]] = ()  # bm25s belongs to the core
    extra: ClassVar[str] = ""
    reads_text: ClassVar[bool] = True

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
        """Stamped with the version of bm25s, and the revision of what a word is."""
        return stamp_of(self, "bm25", "bm25s", model=f"words-{REVISION}")


class Vocabulary:
    """How the words of all documents were stemmed, so that those of a query are stemmed alike."""

    def __init__(self) -> None:
        self._languages: dict[str, set[str]] = defaultdict(set)  # by script
        self._stems: dict[str, set[str]] = defaultdict(set)  # by the word without accents

    def add(self, text: str) -> list[str]:
        """The stems of a document's content words, in its own language."""
        languages = languages_of(words(text))
        for script, language in languages.items():
            self._languages[script].add(language)
        stems = []
        for word in content_words(text):
            stems.append(stem(word, languages.get(script_of(word))))
            self._stems[bare(word)].add(stems[-1])
        return stems

    def stems(self, text: str) -> Iterator[str]:
        """The stems by which documents may hold the content words of a query, each word's in order."""
        for word in content_words(text):
            languages = self._languages.get(script_of(word), ())
            yield from sorted({stem(word, language) for language in languages} | self._stems.get(bare(word), set()))


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
        vocabulary = Vocabulary()
        tokens = [vocabulary.add(text) for _, text in ordered]
        if not any(tokens):
            return Bm25Index(ids, None, vocabulary)
        # 64 bits, so that equal evidence gets equal scores and unequal evidence does not get them by rounding.
        scorer = bm25s.BM25(k1=self.options.k1, b=self.options.b, method=self.options.method, dtype="float64")
        scorer.index(tokens, show_progress=False)
        return Bm25Index(ids, scorer, vocabulary)


@dataclass(frozen=True)
class Bm25Index:
    """A BM25 index over the videos ``ids`` (sorted); ``scorer`` is None where no document has a word.

    Searching changes nothing, so that threads may share an index.
    """

    ids: Sequence[str]
    scorer: Any
    vocabulary: Vocabulary

    def search(self, query_id: str, text: str, depth: int) -> Candidates:
        """The ``depth`` best videos that share a word with ``text``, best first, ties by video id."""
        tokens = list(self.vocabulary.stems(text))
        if not tokens or self.scorer is None:
            return Candidates()
        scores = self.scorer.get_scores(tokens)
        found = np.flatnonzero(scores > 0)
        best = found[np.argsort(-scores[found], kind="stable")][:depth]
        return Candidates((self.ids[i] for i in best), scores[best])
