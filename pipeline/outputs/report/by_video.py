"""Groups of one video in numbers: the kinds of their negative queries, and words that would give these away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.outputs.tables import Tables
from schemas.example import EDITS, SPLITS, Split
from transforms.curate.concept_balance import terms

_SHOWN = 12  # words


@dataclass(slots=True)
class ByVideo:
    """Groups by split, and negative queries by kind of edit.

    ``reworded`` true queries stand beside them in other words.
    ``told`` of the ``negatives`` of train hold a word that none of its true queries holds; ``words`` are the most
    frequent of these words, with the number of negatives that hold them.
    """

    groups: dict[Split, int]
    edits: Counter[str] = field(default_factory=Counter)
    reworded: int = 0
    negatives: int = 0
    told: int = 0
    words: list[tuple[str, int]] = field(default_factory=list)

    @property
    def by_edit(self) -> list[tuple[str, int]]:
        """Negatives by kind, in the order of the kinds."""
        return [(edit, self.edits[edit]) for edit in EDITS if self.edits[edit]]


def count_by_video(tables: Tables, recipe: Mapping[str, Any]) -> ByVideo | None:
    """The counts of an output whose recipe asks for such groups, else None."""
    if (recipe.get("synthesize") or {}).get("negative_queries") is None:
        return None
    found = ByVideo({split: tables.count("ranking_by_video", split) for split in SPLITS})
    positives: set[str] = set()
    negatives: list[frozenset[str]] = []
    for split in SPLITS:
        for row in tables.rows("ranking_by_video", ["reworded_from", "candidates"], split):
            true, *others = row["candidates"]
            found.reworded += row.get("reworded_from") is not None
            found.edits.update(other["edit"] for other in others)
            if split == "train":
                positives |= terms(true["query"])
                negatives += [terms(other["query"]) for other in others]
    found.negatives, found.told = len(negatives), sum(not words <= positives for words in negatives)
    alone = Counter(word for words in negatives for word in words - positives)
    found.words = sorted(alone.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    return found
