"""Training examples: a query with its videos, a video with its queries, and a video with its caption.

And what the label of a positive rests on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from schemas.check import pickled_by_fields, require, require_fraction, require_one_of, require_text
from schemas.fingerprint import content_id
from schemas.query import LABELS, ConfidenceSource, Judgement, Label, Place, QueryType, Variant
from schemas.video import MODALITIES, EngineStamp, Modality

Split = Literal["train", "validation"]
SPLITS: tuple[Split, ...] = get_args(Split)

Stratum = Literal["positive", "confirmed_positive", "trusted_negative", "hard_negative", "suspected_positive"]
STRATA: tuple[Stratum, ...] = get_args(Stratum)
POSITIVES: tuple[Stratum, ...] = ("positive", "confirmed_positive")

Edit = Literal["information", "year", "place", "actor", "number", "order", "negation"]
EDITS: tuple[Edit, ...] = get_args(Edit)
"""What a negative query changes of the query that it looks like: one property, or all the information asked for."""


@pickled_by_fields
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


@pickled_by_fields
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


@pickled_by_fields
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


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class NegativeQuery:
    """A query that looks like another one.

    ``judgement`` is the less sure no that the other's video got for it, None before anybody was asked.
    """

    query_id: str
    text: str
    edit: Edit
    judgement: Judgement | None = None

    @staticmethod
    def id_of(query_id: str, text: str) -> str:
        """The content id of a negative of the query ``query_id``; it is none that written queries have."""
        return content_id("n", query_id, text)

    @staticmethod
    def is_id(query_id: str) -> bool:
        """Whether an id is of the form that ids of negatives have; people's queries have any."""
        return query_id.startswith("n-")


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Rewording:
    """A true query in other words; ``judgement`` is its verifier's less sure yes, None before that was asked."""

    text: str
    judgement: Judgement | None = None


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class NegativeQueries:
    """The queries that were written to look like that of an example, and are left of them so far, in their order.

    ``verifier`` is who was asked whether the example's own video answers them, None before. ``rewording`` is to take
    the place of the example's query, if any is.
    """

    example: Example
    writer: EngineStamp
    queries: tuple[NegativeQuery, ...]
    verifier: EngineStamp | None = None
    rewording: Rewording | None = None

    @property
    def query_id(self) -> str:
        """The query that they look like."""
        return self.example.query_id

    @property
    def true_text(self) -> str:
        """The query that the video answers, in the words in which it stands beside these."""
        return self.rewording.text if self.rewording is not None else self.example.query

    @property
    def video_id(self) -> str:
        """The video that they are to be negatives of."""
        return self.example.candidates[0].video_id


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class QueryCandidate:
    """One query of an example of one video; ``label`` is 1 for the query that the video answers, 0 for its negatives.

    ``edit`` is what a negative query changes of the true one, None for that. The margin is the teacher's, as in
    ExampleCandidate: of a negative query, which it was asked about in two wordings, that of the less sure no.
    """

    query_id: str
    query: str
    label: int
    edit: Edit | None
    teacher_label: Label
    delta: float | None
    delta_lo: float | None
    delta_hi: float | None
    p_yes: float | None
    confidence_source: ConfidenceSource
    rationale: str
    censored: Label | None = None
    label_mass: float | None = None
    delta_prior: float | None = None

    def __post_init__(self) -> None:
        require_text("query", self.query)
        require(self.label in (0, 1), "label is 0 or 1", self.label)
        require((self.edit is None) == bool(self.label), "an edit is named exactly for a negative query", self.edit)
        require(self.edit is None or self.edit in EDITS, f"edit must be one of {', '.join(EDITS)}", self.edit)
        denied = bool(self.label) or self.teacher_label == "no"
        require(denied, "the teacher says no of a negative query", self.teacher_label)
        if self.p_yes is not None:
            require_fraction("p_yes", self.p_yes)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class VideoExample:
    """A ranking example of one video: the query that it answers first, then queries that look like it and are not.

    ``query_id`` is that of the true query, which is in the example of that id as well. ``writer`` wrote the others,
    ``verifier`` found that the video does not answer them. Where the true query stands here in other words, which the
    writer put it in and the verifier said yes to, ``reworded_from`` is how it was put.
    """

    query_id: str
    video_id: str
    split: Split
    writer: EngineStamp
    verifier: EngineStamp
    candidates: tuple[QueryCandidate, ...]
    reworded_from: str | None = None

    def __post_init__(self) -> None:
        require_one_of("split", self.split, SPLITS)
        labels = [candidate.label for candidate in self.candidates]
        require(labels[:1] == [1] and sum(labels) == 1 < len(labels), "the true query, then its negatives", labels)
        require(self.candidates[0].query_id == self.query_id, "the true query comes first", self.query_id)
        texts = [candidate.query.casefold() for candidate in self.candidates]
        texts += [self.reworded_from.casefold()] if self.reworded_from else []
        require(len(set(texts)) == len(texts), "a query is a candidate only once", texts)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Without:
    """What the judge says of a pair once it is not shown one ``modality`` of the video's evidence.

    The verdict is as in ExampleCandidate. ``drop`` is the modality's necessity score: by how many nats the margin falls
    without it, None where one of the two is not known.
    """

    modality: Modality
    drop: float | None
    teacher_label: Label
    delta: float | None
    delta_lo: float | None
    delta_hi: float | None
    p_yes: float | None
    confidence_source: ConfidenceSource
    rationale: str
    censored: Label | None = None
    label_mass: float | None = None
    delta_prior: float | None = None

    def __post_init__(self) -> None:
        require_one_of("modality", self.modality, MODALITIES)
        require_one_of("teacher_label", self.teacher_label, LABELS)
        if self.p_yes is not None:
            require_fraction("p_yes", self.p_yes)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Necessity:
    """What the label of a positive rests on: ``without`` each modality in turn, of those that its judge was ``shown``.

    ``unseen`` are modalities that the video has and the judge was not shown. ``delta`` is the margin of the label, with
    all that was shown. A modality whose question got no verdict is not among those of ``without``; where only one was
    shown there is nothing to ask, and the label rests on that. See ``rests_on`` for the last.
    """

    query_id: str
    video_id: str
    delta: float | None
    shown: tuple[Modality, ...]
    unseen: tuple[Modality, ...]
    without: tuple[Without, ...]
    rests_on: tuple[Modality, ...]

    def __post_init__(self) -> None:
        require(bool(self.shown), "a judge was shown something", self.shown)
        for name in ("shown", "unseen", "rests_on"):
            _require_in_order(name, getattr(self, name))
        require(set(self.shown).isdisjoint(self.unseen), "what was shown was seen", self.unseen)
        left_out = [one.modality for one in self.without]
        _require_in_order("without", left_out)
        require(set(left_out) <= set(self.shown), "only what was shown is left out", left_out)
        require(bool(left_out) == (len(self.shown) > 1), "of several modalities one is left out", left_out)
        due = rests_on(self.shown, self.without)
        require(self.rests_on == due, f"a yes rests on what turns it into a no: {due}", self.rests_on)
        for one in self.without:
            fall = None if self.delta is None or one.delta is None else self.delta - one.delta
            same = one.drop == fall if one.drop is None or fall is None else math.isclose(one.drop, fall)
            require(same, f"drop is delta less that without the {one.modality}: {fall}", one.drop)

    @property
    def target_modality(self) -> Modality | None:
        """Of the modalities that the label rests on, the one whose drop is largest; None where any of several do."""
        drops = {one.modality: one.drop for one in self.without if one.drop is not None}
        return max(self.rests_on, key=lambda name: drops.get(name, -math.inf), default=None)


def rests_on(shown: Sequence[Modality], without: Sequence[Without]) -> tuple[Modality, ...]:
    """The modalities without which the judge no longer says yes, or the only one that it was shown.

    None do where several tell the same: no one of them is needed then.
    """
    if len(shown) == 1:
        return tuple(shown)
    return tuple(one.modality for one in without if one.teacher_label == "no")


def _require_in_order(name: str, modalities: Sequence[Modality]) -> None:
    due = [modality for modality in MODALITIES if modality in modalities]
    require(list(modalities) == due, f"{name} has modalities, each once, in their order", modalities)
