"""What the tables of an output hold that later ones refer to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from transforms.curate.curate_query import CurateRules

MARGIN = ("delta", "delta_lo", "delta_hi", "censored", "label_mass", "delta_prior", "p_yes", "confidence_source")
SHARED = (*MARGIN, "stratum", "rank", "score", "rationale")
"""What a candidate has of its judgement, besides the label and the places in runs."""

Place = tuple[str, int | None, float]  # run, rank, score


@dataclass(slots=True)
class Seen:
    """What earlier tables hold and later ones refer to."""

    rules: CurateRules
    wants_frames: bool
    video_split: dict[str, str] = field(default_factory=dict)
    event_split: dict[str, str] = field(default_factory=dict)
    group_split: dict[str, str] = field(default_factory=dict)
    video_group: dict[str, str] = field(default_factory=dict)  # of videos whose group is named for another
    without_frames: set[str] = field(default_factory=set)
    query_video: dict[str, str] = field(default_factory=dict)
    kept_queries: dict[str, str] = field(default_factory=dict)  # text by id
    examples: dict[str, str] = field(default_factory=dict)  # split by query
    positives: dict[tuple[str, str], float | None] = field(default_factory=dict)  # margins of those of examples
    captions: dict[str, int] = field(default_factory=dict)  # hashes by video
    kept_pairs: dict[tuple[str, str], int] = field(default_factory=dict)  # hashes, see judged
    text_split: dict[str, str] = field(default_factory=dict)  # of folded texts of examples


def folded(text: str) -> str:
    """A text as it is compared with others."""
    return " ".join(text.casefold().split())


def judged(label: str, places: tuple[Place, ...], shared: Iterable[Any]) -> int:
    """The hash of what a judgement and the candidate that it became have in common; ``shared`` as in SHARED."""
    return hash((label, places, *shared))
