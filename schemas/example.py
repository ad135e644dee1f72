"""Training examples: a query with its positives and its negatives, and a video with its caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from schemas.check import require, require_fraction, require_one_of, require_text
from schemas.query import ConfidenceSource, Label, Place, QueryType, Variant
from schemas.video import EngineStamp, Modality

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)

Stratum = Literal["positive", "confirmed_positive", "trusted_negative", "hard_negative", "suspected_positive"]
STRATA: tuple[Stratum, ...] = get_args(Stratum)
POSITIVES: tuple[Stratum, ...] = ("positive", "confirmed_positive")


@dataclass(frozen=True, slots=True)
class ExampleCandidate:
    """One candidate of a ranking example; ``label`` is 1 for a positive and 0 otherwise.

    ``delta``, its bounds and ``p_yes`` are None where the teacher's confidence is not known. ``censored`` and
    ``label_mass`` are as in Margin, ``delta_prior`` and ``runs`` are as in Judgement.
    """

    video_id: str
    label: int
    stratum: Stratum
    teacher_label: Label
    delta: float | None
    delta_lo: float | None
    delta_hi: float | None
    p_yes: float | None
    confidence_source: ConfidenceSource
    rationale: str
    rank: int | None
    score: float | None
    censored: Label | None = None
    label_mass: float | None = None
    delta_prior: float | None = None
    runs: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        require_one_of("stratum", self.stratum, STRATA)
        require(self.stratum != "suspected_positive", "a suspected positive never enters an example", self.video_id)
        require(self.label == int(self.stratum in POSITIVES), "label is 1 exactly for a positive", self.label)
        if self.p_yes is not None:
            require_fraction("p_yes", self.p_yes)


@dataclass(frozen=True, slots=True)
class Example:
    """A ranking example: one query, its own video first, then other positives, then negatives, by first-stage rank."""

    query_id: str
    query: str
    split: Split
    source: str
    query_type: QueryType | None
    variant: Variant | None
    modalities: tuple[Modality, ...]
    rationale: str
    candidates: tuple[ExampleCandidate, ...]

    def __post_init__(self) -> None:
        require_text("query", self.query)
        require_one_of("split", self.split, SPLITS)
        strata = [candidate.stratum for candidate in self.candidates]
        positives = 1 + strata.count("confirmed_positive")
        require(strata[:1] == ["positive"], "the query's own video comes first", strata)
        require(strata.count("positive") == 1, "an example has exactly one video of its own", strata)
        require(set(strata[:positives]) <= set(POSITIVES), "positives come before negatives", strata)
        require("trusted_negative" in strata, "an example has at least one trusted negative", strata)
        ids = [candidate.video_id for candidate in self.candidates]
        require(len(set(ids)) == len(ids), "a video is a candidate only once", ids)


@dataclass(frozen=True, slots=True)
class PerceptionExample:
    """A perception example: a video and the caption that the model is to produce for it."""

    video_id: str
    split: Split
    caption: str
    captioner: EngineStamp

    def __post_init__(self) -> None:
        require_text("caption", self.caption)
        require_one_of("split", self.split, SPLITS)
