"""Curation: from all judgements of a query to one training example, with a reason for everything left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import apache_beam as beam

from schemas.check import require
from schemas.configuration.section import Section
from schemas.example import POSITIVES, Example, ExampleCandidate, Split, Stratum
from schemas.losses import Loss
from schemas.people.mark import Mark
from schemas.query import Judgement, Query
from transforms.curate.strata import stratum_of
from transforms.ledger import LOSSES, lost
from transforms.teacher.panel import PanelRules
from transforms.teacher.verdict import verdict_of

Positives = Literal["one", "confirmed"]
NO_MARKS: Mapping[str, Mark] = {}
DEFERRED = "deferred"  # the reason of a pair whose query waits for the rest of its judgements


class CurateRules(Section, frozen=True):
    """Thresholds of RankVideo (arXiv 2602.02444, section 4.2): ``alpha1``, ``alpha2`` as in ``stratum_of`` (nats).

    At least ``min_trusted`` trusted negatives a query, at most ``max_negatives`` negatives in all. With
    ``sure_positive``, a query whose own video has a lower margin (nats), or none, is dropped. ``panel`` is when further
    judges were asked, None where there are none. ``positives`` are a query's own video alone ("one"), or also those
    suspected ones that the panel "confirmed" (RLHN: arXiv 2505.16967).
    """

    alpha1: float = -6.0
    alpha2: float = -8.0
    min_trusted: int = 1
    max_negatives: int = 3
    positives: Positives = "one"
    sure_positive: float | None = None
    panel: PanelRules | None = None

    def stratum(self, judgement: Judgement) -> Stratum:
        """See ``stratum_of``."""
        confirmed_by = self.panel if self.positives == "confirmed" else None
        return stratum_of(judgement, self.alpha1, self.alpha2, confirmed_by)

    def __post_init__(self) -> None:
        require(-math.inf < self.alpha1 <= 0, "alpha1 must be a number of at most 0", self.alpha1)
        require(math.isfinite(self.alpha2), "alpha2 must be finite", self.alpha2)
        sure = self.sure_positive
        require(sure is None or 0 <= sure < math.inf, "sure_positive must be a number of at least 0, or null", sure)
        limits = (self.min_trusted, self.max_negatives)
        require(1 <= self.min_trusted <= self.max_negatives, "1 <= min_trusted <= max_negatives", limits)


@dataclass(frozen=True, slots=True)
class CuratedPair:
    """A judged pair with its stratum, and why it was not kept; ``reason`` is empty exactly where it was."""

    judgement: Judgement
    stratum: Stratum
    kept: bool
    reason: str = ""

    def __post_init__(self) -> None:
        require(self.kept == (not self.reason), "a reason is given exactly where a pair is not kept", self.reason)


@dataclass(frozen=True, slots=True)
class CuratedQuery:
    """A query's example, or why there is none or none yet, and what became of each of its judged pairs."""

    outcome: Example | Loss
    pairs: tuple[CuratedPair, ...]


def curate_query(
    query: Query,
    split: Split,
    judgements: Iterable[Judgement],
    rules: CurateRules,
    marks: Mapping[str, Mark] = NO_MARKS,
) -> CuratedQuery:
    """Choose the candidates of one query from its judgements (any order; each video at most once).

    ``marks`` are what people say is wrong with it: of the query under "", of a pair under its video. A query that they
    mark is dropped for "marked bad query" or "marked wrong positive", a candidate that they call a false negative or a
    wrong positive is never chosen as one. Otherwise a query is dropped for "no positive verdict" (its own video's
    judgement is missing), "teacher disagrees" (it is no), "unsure positive" (see the rules), "panel disagrees" (too few
    others say yes) or "no trusted negative" (fewer than ``min_trusted``). Else its own video comes first, then
    confirmed positives, then negatives, each by first-stage rank, ties by video id: the best-ranked ``min_trusted``
    trusted ones in any case, and the best-ranked of all trusted and hard ones up to ``max_negatives``. Pairs come by
    rank, suspected positives among them.

    Raises:
        ValueError: a video was judged twice, or two positives were judged.
    """
    ordered = sorted(judgements, key=_by_rank)
    if len({judgement.video_id for judgement in ordered}) < len(ordered) or sum(j.is_positive for j in ordered) > 1:
        raise ValueError(f"query {query.query_id!r} needs one judgement a video and one positive")
    strata = {judgement.video_id: rules.stratum(judgement) for judgement in ordered}
    unfit = {j.video_id: why for j in ordered if (why := _unfit(j, strata[j.video_id], rules, marks))}
    fit = [j for j in ordered if j.video_id not in unfit]
    negatives = [j for j in fit if strata[j.video_id] not in POSITIVES]
    trusted = [j for j in negatives if strata[j.video_id] == "trusted_negative"]
    found = _marked_reason(query, marks) or reject_reason(ordered, len(trusted), rules)
    if found is not None:
        reason, detail = found
        loss = Loss("rejected", "curate", "queries", reason, detail, query.video_id, query.query_id)
        return CuratedQuery(loss, tuple(_of_dropped(j, strata[j.video_id]) for j in ordered))
    sure = trusted[: rules.min_trusted]
    others = [j for j in negatives if j not in sure][: rules.max_negatives - len(sure)]
    kept = {j.video_id for j in fit if strata[j.video_id] in POSITIVES or j in sure or j in others}
    left = dict.fromkeys((j.video_id for j in negatives if j.video_id not in kept), "surplus negative")
    reasons = unfit | left
    pairs = tuple(CuratedPair(j, strata[j.video_id], j.video_id in kept, reasons.get(j.video_id, "")) for j in ordered)
    candidates = sorted((pair for pair in pairs if pair.kept), key=lambda pair: pair.stratum not in POSITIVES)
    return CuratedQuery(_example(query, split, tuple(map(_candidate, candidates))), pairs)


def _by_rank(judgement: Judgement) -> tuple[bool, bool, int, str]:
    """The positive first, then by first-stage rank (pairs that were not retrieved last), ties by video id."""
    return not judgement.is_positive, judgement.rank is None, judgement.rank or 0, judgement.video_id


def _marked(marks: Mapping[str, Mark], video_id: str) -> str:
    return marks[video_id].verdict if video_id in marks else ""


def _unfit(judgement: Judgement, stratum: Stratum, rules: CurateRules, marks: Mapping[str, Mark]) -> str:
    """Why another video than the query's own may be no candidate, "" where it may."""
    marked = _marked(marks, judgement.video_id)
    if judgement.is_positive:
        return ""
    if stratum == "confirmed_positive":
        return "marked wrong positive" if marked == "wrong positive" else ""
    if marked == "false negative":
        return "marked false negative"
    if stratum == "suspected_positive":
        return "suspected positive"
    return "panel disagrees" if rules.panel and not rules.panel.stands(judgement, "no") else ""


def _marked_reason(query: Query, marks: Mapping[str, Mark]) -> tuple[str, str] | None:
    for video_id, verdict in (("", "bad query"), (query.video_id, "wrong positive")):
        if _marked(marks, video_id) == verdict:
            return f"marked {verdict}", marks[video_id].note or "by a person"
    return None


def reject_reason(ordered: Sequence[Judgement], trusted: int, rules: CurateRules) -> tuple[str, str] | None:
    """Why a query is dropped, given its judgements and its number of trusted negatives; in short and at length."""
    positive = next((judgement for judgement in ordered if judgement.is_positive), None)
    if positive is None:
        return "no positive verdict", "the judgement of its own video failed or could not be read"
    if positive.label == "no":
        return (
            "teacher disagrees",
            f"judged no, margin {f'{positive.margin.delta:.2f}' if positive.margin else 'unknown'}",
        )
    if rules.sure_positive is not None and (positive.margin is None or positive.margin.delta < rules.sure_positive):
        found = f"margin {positive.margin.delta:.2f}" if positive.margin else "no margin"
        return "unsure positive", f"judged yes, {found}, at least {rules.sure_positive:g}"
    if rules.panel and not rules.panel.stands(positive, "yes"):
        said, least = rules.panel.votes(positive, "yes"), rules.panel.agree
        return "panel disagrees", f"{said} of {1 + len(positive.panel)} verdicts count as yes, at least {least}"
    if trusted < rules.min_trusted:
        return "no trusted negative", f"{trusted} of {len(ordered) - 1} negatives, at least {rules.min_trusted}"
    return None


def _of_dropped(judgement: Judgement, stratum: Stratum) -> CuratedPair:
    reason = "suspected positive" if stratum == "suspected_positive" else "query dropped"
    return CuratedPair(judgement, stratum, False, reason)


def _candidate(pair: CuratedPair) -> ExampleCandidate:
    judgement = pair.judgement
    return ExampleCandidate(
        video_id=judgement.video_id,
        label=int(pair.stratum in POSITIVES),
        stratum=pair.stratum,
        rank=judgement.rank,
        score=judgement.score,
        runs=judgement.runs,
        **verdict_of(judgement),
    )


def _example(query: Query, split: Split, candidates: tuple[ExampleCandidate, ...]) -> Example:
    return Example(
        query_id=query.query_id,
        query=query.text,
        split=split,
        source=query.source,
        query_type=query.query_type,
        variant=query.variant,
        modalities=query.modalities,
        rationale=query.rationale,
        candidates=candidates,
    )


@dataclass(frozen=True, slots=True)
class Group:
    """A query with all its judgements; ``deferred`` is why others are left for a later run.

    ``marks`` are what people say is wrong with it, see ``curate_query``.
    """

    query: Query
    split: Split
    judgements: tuple[Judgement, ...]
    deferred: str = ""
    marks: Mapping[str, Mark] = field(default_factory=dict)


def defer_query(group: Group, rules: CurateRules) -> CuratedQuery:
    """A query that waits for the rest of its judgements: with half of them it would get other negatives."""
    query = group.query
    loss = Loss("deferred", "curate", "queries", group.deferred, "", query.video_id, query.query_id)
    pairs = tuple(CuratedPair(one, rules.stratum(one), False, DEFERRED) for one in group.judgements)
    return CuratedQuery(loss, pairs)


@dataclass
class CurateExamples(beam.PTransform):
    """(query_id, Group) -> Example, written or human query alike.

    Queries that are dropped or wait go to the tag "losses", and every judged pair to "pairs" as CuratedPair. The rules
    may be a side input, of one element.
    """

    rules: CurateRules | beam.pvalue.AsSingleton = field(default_factory=CurateRules)

    def expand(self, groups: beam.PCollection[tuple[str, Group]]) -> beam.pvalue.DoOutputsTuple:
        return groups | "Curate" >> beam.FlatMap(_curate, rules=self.rules).with_outputs(
            LOSSES, "pairs", main="examples"
        )


def _curate(keyed: tuple[str, Group], rules: CurateRules) -> Iterator[Example | beam.pvalue.TaggedOutput]:
    _, group = keyed
    if group.deferred:
        curated = defer_query(group, rules)
    else:
        curated = curate_query(group.query, group.split, group.judgements, rules, group.marks)
    match curated.outcome:
        case Example() as example:
            yield example
        case Loss() as loss:
            yield lost(loss)
    yield from (beam.pvalue.TaggedOutput("pairs", pair) for pair in curated.pairs)
