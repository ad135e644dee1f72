"""Queries, ranked candidates and the teacher's judgements of (query, video) pairs."""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args, overload

from schemas.check import pickled_by_fields, require, require_fraction, require_one_of, require_text
from schemas.difficulty import Difficulty
from schemas.fingerprint import content_id
from schemas.video import MODALITIES, EngineStamp, Modality
from schemas.visible import is_blank

Variant = Literal["caption", "asr", "ocr", "metadata", "all", "request", "event"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
PAPERS_VARIANTS = VARIANTS[:5]
"""Those of RankVideo: a modality each, and all together. The others are written from all of them too: a request is
long, an event is taken apart.
"""
WITH_PARTS: tuple[Variant, ...] = ("request", "event")
"""Variants whose queries come with others that ask for a part of what they ask for."""

Span = Literal["before", "during", "after"]
SPANS: tuple[Span, ...] = get_args(Span)
"""The types of queries for a part of an event, which no other query is of."""
QueryType = Literal["base", "specific", "ocr", "speech", "text", "visual", "cross", "before", "during", "after"]
QUERY_TYPES: tuple[QueryType, ...] = get_args(QueryType)

Label = Literal["yes", "no"]
LABELS: tuple[Label, ...] = get_args(Label)

ConfidenceSource = Literal[
    "logprobs_exact", "logprobs", "logprobs_prefill", "sampling", "verbalized", "prior", "rules", "label_only"
]
CONFIDENCE_SOURCES: tuple[ConfidenceSource, ...] = get_args(ConfidenceSource)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class EvidenceCut:
    """A modality of a video's evidence that a prompt held only the start of: ``shown`` of ``of`` characters."""

    modality: Modality
    shown: int
    of: int

    def __post_init__(self) -> None:
        require_one_of("modality", self.modality, MODALITIES)
        require(0 <= self.shown < self.of, "what was cut shows fewer characters than there are", (self.shown, self.of))


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Query:
    """A query and the video it was written for.

    ``source`` is "teacher" or "human"; human queries have no variant, rationale, writer or difficulty. ``modalities``
    are those a viewer needs to answer it, ``cited`` is what the teacher quotes from the evidence. A short query that
    asks for one thing of a long request, or for one span of an event, is ``part_of`` it, by its id. ``reply`` is the
    teacher's whole reply, ``seed`` that of the request it answers, the last of so many ``attempts``; ``prompt_sha256``
    is the hash of the prompt, ``evidence_cut`` what the prompt left out of the evidence. ``also_relevant`` are other
    videos that are known to answer it, which therefore are none of its negatives; ``grades`` are those above zero that
    people gave, by video. ``language`` (ISO 639) is the one that its writer was asked for, None where the prompt alone
    decides.
    """

    query_id: str
    video_id: str
    text: str
    source: Literal["teacher", "human"]
    query_type: QueryType | None = None
    variant: Variant | None = None
    rationale: str = ""
    modalities: tuple[Modality, ...] = ()
    writer: EngineStamp | None = None
    reply: str = ""
    prompt_sha256: str = ""
    also_relevant: tuple[str, ...] = ()
    grades: tuple[tuple[str, int], ...] = ()
    evidence_cut: tuple[EvidenceCut, ...] = ()
    cited: tuple[str, ...] = ()
    difficulty: Difficulty | None = None
    seed: int | None = None
    attempts: int | None = None
    part_of: str | None = None
    language: str | None = None

    def __post_init__(self) -> None:
        require_text("query_id", self.query_id)
        require(not any(map(is_blank, self.query_id)), "query_id must hold visible characters alone", self.query_id)
        require_text("video_id", self.video_id)
        require_text("query", self.text)
        require(self.video_id not in self.also_relevant, "the positive is no other relevant video", self.video_id)
        require_one_of("source", self.source, ("teacher", "human"))
        ours = self.source == "human" and is_written_id(self.query_id)
        require(not ours, "a query by people has no id of the form that written queries have", self.query_id)
        if self.source == "teacher":
            require_one_of("query_type", self.query_type or "", QUERY_TYPES)
            require_one_of("variant", self.variant or "", VARIANTS)
            require(self.writer is not None, "a written query names its writer", self.query_id)
        for modality in self.modalities:
            require_one_of("modality", modality, MODALITIES)
        needed = len(set(self.modalities))
        require(self.query_type != "cross" or needed >= 2, "a cross query needs two modalities", self.modalities)
        part = self.part_of is None or (self.variant in WITH_PARTS and self.part_of != self.query_id)
        require(part, "a query is part of a request or event alone, and not of itself", self.part_of)
        spans = self.query_type not in SPANS or (self.variant == "event" and self.part_of is not None)
        require(spans, "a query for what was before, during or after is part of an event", self.query_type)
        require(self.attempts is None or self.attempts >= 1, "attempts must be at least 1", self.attempts)

    @staticmethod
    def id_of(video_id: str, variant: Variant, text: str) -> str:
        """The content id of a written query."""
        return content_id("q", video_id, variant, text)


def is_written_id(query_id: str) -> bool:
    """Whether an id is of the form that ``Query.id_of`` gives: no other query may have it."""
    return re.fullmatch(r"q-[0-9a-f]{16}", query_id) is not None


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class QueryText:
    """Of a query only what a teacher is shown, and its id."""

    query_id: str
    text: str


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Candidate:
    """A video at a rank of a first-stage run; ``rank`` counts from 1, ``score`` is the retriever's own."""

    video_id: str
    rank: int
    score: float

    def __post_init__(self) -> None:
        require(self.rank >= 1, "rank counts from 1", self.rank)
        require(math.isfinite(self.score), "a first-stage score must be finite", self.score)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Place:
    """A video's rank and score in one of several runs, by the run's name.

    A query's own video has no rank where it stands behind the last candidate, though its score be known.
    """

    run: str
    rank: int | None
    score: float

    def __post_init__(self) -> None:
        require_text("run", self.run)
        require(self.rank is None or self.rank >= 1, "rank counts from 1", self.rank)
        require(math.isfinite(self.score), "a first-stage score must be finite", self.score)


class Candidates(Sequence[Candidate]):
    """Candidates, best first, ranks from 1; each is made when it is asked for.

    Two orders of magnitude cheaper to encode than as many records, and half their size.
    """

    __slots__ = ("_scores", "_video_ids")

    def __init__(self, video_ids: Iterable[str] = (), scores: Iterable[float] = ()) -> None:
        self._video_ids = tuple(video_ids)
        self._scores = array("d", scores)
        same = len(self._video_ids) == len(self._scores)
        require(same, "every candidate has one score", (len(self._video_ids), len(self._scores)))
        require(all(map(math.isfinite, self._scores)), "first-stage scores must be finite", self._scores)

    @classmethod
    def of(cls, ranked: Sequence[Candidate]) -> Candidates:
        """The same candidates; they must be in the order of their ranks, which count from 1."""
        if isinstance(ranked, Candidates):
            return ranked
        ranks = [candidate.rank for candidate in ranked]
        require(ranks == list(range(1, len(ranks) + 1)), "ranks count from 1, best first", ranks)
        return cls((candidate.video_id for candidate in ranked), (candidate.score for candidate in ranked))

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The videos, best first."""
        return self._video_ids

    @property
    def scores(self) -> Sequence[float]:
        """The score of each."""
        return self._scores

    def find(self, video_id: str) -> Candidate | None:
        """The candidate that is this video, if any."""
        if video_id not in self._video_ids:
            return None
        return self[self._video_ids.index(video_id)]

    @overload
    def __getitem__(self, at: int) -> Candidate: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, at: int | slice) -> Candidate | tuple[Candidate, ...]:
        if isinstance(at, slice):
            return tuple(self[index] for index in range(*at.indices(len(self))))
        index = range(len(self))[at]
        return Candidate(self._video_ids[index], index + 1, self._scores[index])

    def __iter__(self) -> Iterator[Candidate]:
        for rank, (video_id, score) in enumerate(zip(self._video_ids, self._scores, strict=True), start=1):
            yield Candidate(video_id, rank, score)

    def __len__(self) -> int:
        return len(self._video_ids)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Candidates):
            return (self._video_ids, self._scores) == (other._video_ids, other._scores)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._video_ids, self._scores.tobytes()))

    def __repr__(self) -> str:
        return f"Candidates({self._video_ids!r}, {list(self._scores)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _unpacked, ("\n".join(self._video_ids), self._scores.tobytes())


def _unpacked(video_ids: str, scores: bytes) -> Candidates:
    """What was pickled: ids one a line, which hold no white space, and 64-bit floats."""
    found = Candidates.__new__(Candidates)
    found._video_ids = tuple(video_ids.split("\n")) if scores else ()
    found._scores = array("d")
    found._scores.frombytes(scores)
    return found


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Margin:
    """The teacher's margin delta = log p(yes) - log p(no) at the answer position, or an estimate of it (nats).

    ``lo`` and ``hi`` bound the margin over all spellings of the two words. ``censored`` names the side that the
    server did not report; ``delta`` is then the finite end of the interval. ``label_mass`` is the probability of both
    words at that position, None for a margin that is not read from probabilities.
    """

    delta: float
    lo: float
    hi: float
    censored: Label | None = None
    label_mass: float | None = None

    def __post_init__(self) -> None:
        if self.label_mass is not None:
            require_fraction("label_mass", self.label_mass)
        finite = all(math.isfinite(x) for x in (self.delta, self.lo, self.hi))
        require(finite and self.lo <= self.delta <= self.hi, "a margin needs finite lo <= delta <= hi", self)

    @property
    def p_yes(self) -> float:
        """sigmoid(delta)."""
        return 1.0 / (1.0 + math.exp(-self.delta)) if self.delta >= 0 else 1.0 - 1.0 / (1.0 + math.exp(self.delta))


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Opinion:
    """What a further judge, called ``judge``, says of a pair; the rest is as in Judgement, and rests on no prior."""

    judge: str
    label: Label
    rationale: str
    margin: Margin | None
    confidence_source: ConfidenceSource
    teacher: EngineStamp
    reply: str
    prompt_sha256: str
    delta_prior: float | None = None
    evidence_cut: tuple[EvidenceCut, ...] = ()

    def __post_init__(self) -> None:
        require_text("judge", self.judge)
        require(self.confidence_source != "prior", "a further judge gives its reasons", self.judge)
        _require_verdict(self)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Judgement:
    """The teacher's verdict on one (query, video) pair.

    ``margin`` is None, never a guess, where there is none to be had; ``confidence_source`` says where it came from.
    ``delta_prior`` is the margin (nats) of an answer without a rationale: another quantity, None where none was asked
    for or to be had. A judgement whose confidence source is "prior" rests on it alone: it is a "no" that the teacher
    was not asked to explain. ``evidence_cut`` is what the prompt left out of the evidence. ``rank`` and ``score`` are
    the first stage's, None for a pair it did not retrieve; ``runs`` are the video's places in the runs that found it.
    ``panel`` is what further judges say of the pair, by their names.
    """

    query_id: str
    video_id: str
    is_positive: bool
    label: Label
    rationale: str
    margin: Margin | None
    confidence_source: ConfidenceSource
    teacher: EngineStamp
    reply: str
    prompt_sha256: str
    rank: int | None = None
    score: float | None = None
    delta_prior: float | None = None
    evidence_cut: tuple[EvidenceCut, ...] = ()
    runs: tuple[Place, ...] = ()
    panel: tuple[Opinion, ...] = ()

    def __post_init__(self) -> None:
        _require_verdict(self)
        names = [opinion.judge for opinion in self.panel]
        require(names == sorted(set(names)), "further judges are in the order of their names, each once", names)
        if self.confidence_source == "prior":
            settled = self.label == "no" and not self.is_positive and not self.rationale
            require(settled, "without a rationale, a pair is only ever judged no, and no positive is", self.video_id)
            same = self.margin is not None and self.margin.delta == self.delta_prior
            require(same, "a judgement that rests on the prior has its margin", self.delta_prior)


def _require_verdict(said: Judgement | Opinion) -> None:
    require_one_of("label", said.label, LABELS)
    require_one_of("confidence_source", said.confidence_source, CONFIDENCE_SOURCES)
    no_margin = said.confidence_source == "label_only"
    require((said.margin is None) == no_margin, "only a label-only judgement has no margin", said.confidence_source)
    if said.margin is not None:
        require_fraction("p_yes", said.margin.p_yes)
    prior = said.delta_prior
    require(prior is None or math.isfinite(prior), "delta_prior must be finite", prior)
