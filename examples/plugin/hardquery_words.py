"""A filter for hardquery that drops queries which hold certain words: options, and a filter that does the work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from schemas.query import Query
from schemas.video import EngineStamp, Evidence
from transforms.protocols.engine import stamp_of


@dataclass(frozen=True)
class WithoutWords:
    """The options that a recipe may give: the words that no query may hold, in any case."""

    words: tuple[str, ...]

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> Lookout:
        """Called once a process."""
        return Lookout(frozenset(word.casefold() for word in self.words))

    def stamp(self) -> EngineStamp:
        """What decides what it says: options and this package's version."""
        return stamp_of(self, "without_words", "")


class Lookout:
    """The filter: a ``QueryFilter`` (transforms/protocols/query_filter.py)."""

    def __init__(self, words: frozenset[str]) -> None:
        self._words = words

    def objection(self, query: Query, evidence: Evidence) -> str | None:
        """The first such word of a query; None where it has none."""
        held = (word for word in query.text.split() if word.strip(".,;:?!\"'").casefold() in self._words)
        return next((f"it says {word!r}" for word in held), None)
