"""Choosing pairs: which candidates of a query the teacher judges, and which are left out before it is paid for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from types import MappingProxyType

import apache_beam as beam

from schemas.example import Split
from schemas.losses import Loss
from schemas.query import Candidate, Candidates
from transforms.ledger import LOSSES, lost
from transforms.mine.filter_rankings import negatives
from transforms.mine.margin_rule import FittedMargin, MarginRule
from transforms.mine.retrieve import Ranking
from transforms.progress import announce

NEAR_DUPLICATE, ABOVE_MARGIN = "near duplicate", "above the margin"
_NO_QUOTAS: Mapping[str, int] = MappingProxyType({})

# A pair before its video is at hand: video id, query id, the query's text, whether the video is its own, the video's
# rank and score, and its (run, rank, score) in each run that found it. Plain tuples, because there are some 20 a query
# and Beam encodes nothing in less.
Assignment = tuple[str, str, str, bool, int, float, tuple[tuple[str, int | None, float], ...]]


def way_down(ranking: Ranking, run: str | None) -> float | None:
    """How far down the best other video is: 0 at the own video's score or above, 1 at the median candidate's or below.

    None where the run lacks the own video, or any other that is not known to answer the query.
    """
    scores = ranking.run(run)
    positive, best = scores.find(ranking.query.video_id), next(negatives(ranking.query, scores), None)
    if positive is None or best is None:
        return None
    middle = min(positive.score, median(candidate.score for candidate in scores))
    whole = positive.score / 2 - middle / 2  # halves, whose difference cannot overflow
    return min(max((positive.score / 2 - best.score / 2) / whole, 0.0), 1.0) if whole > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate that was looked at for a query; ``reason`` says why it is left out, and is empty where it is not."""

    candidate: Candidate
    reason: str = ""
    detail: str = ""


def choose_pairs(
    ranking: Ranking,
    split_of: Callable[[str], Split],
    depth: int,
    near_of: Callable[[str], str] = str,
    margin: MarginRule | None = None,
    quotas: Mapping[str, int] = _NO_QUOTAS,
) -> Iterator[Choice]:
    """The positive, then the negatives of its split from the best on until ``depth`` are found that are not left out.

    Left out are near-duplicates of the videos that answer the query (those of the same ``near_of``): whatever they
    score, they answer it too; and what lies above the ``margin``. Other known positives are passed over. With
    ``quotas``, a negative is among as many of its split that are not left out, from the best of a run on, as that run's
    quota says; a run without one has no limit.

    Raises:
        ValueError: the positive was not retrieved; such queries are dropped first.
    """
    query = ranking.query
    if ranking.positive is None:
        raise ValueError(f"the positive of query {query.query_id!r} was not retrieved")
    yield Choice(ranking.positive)
    answers = {near_of(video_id): video_id for video_id in (*query.also_relevant, query.video_id)}
    too_near = _above(ranking, margin)

    def why_not(video_id: str) -> tuple[str, str]:
        if near := answers.get(near_of(video_id)):
            return NEAR_DUPLICATE, f"of {near}"
        above = too_near(video_id)
        return (ABOVE_MARGIN, above) if above else ("", "")

    split, kept = split_of(query.video_id), 0
    looked_at = _within(ranking, quotas, lambda video_id: split_of(video_id) == split, why_not) if quotas else None
    for candidate in negatives(query, ranking.candidates):
        if kept == depth:
            return
        video_id = candidate.video_id
        if split_of(video_id) == split and (looked_at is None or video_id in looked_at):
            reason, detail = why_not(video_id)
            kept += not reason
            yield Choice(candidate, reason, detail)


def _within(
    ranking: Ranking,
    quotas: Mapping[str, int],
    is_of_split: Callable[[str], bool],
    why_not: Callable[[str], Sequence[str]],
) -> set[str]:
    """The negatives that are looked at until every run has its quota of those that are not left out."""
    found = set()
    for name, run in ranking.runs:
        left = quotas.get(name, len(run))
        for candidate in negatives(ranking.query, run):
            if left == 0:
                break
            if is_of_split(candidate.video_id):
                found.add(candidate.video_id)
                left -= not any(why_not(candidate.video_id))
    return found


def _above(ranking: Ranking, margin: MarginRule | None) -> Callable[[str], str]:
    """Says of a video in which way it lies above the margin; nothing where the run lacks it or the query's own."""
    run = ranking.run(margin.run) if margin else Candidates()
    positive = run.find(ranking.query.video_id)
    if margin is None or positive is None:
        return lambda _: ""
    scores = {candidate.video_id: candidate.score for candidate in run}
    cut = margin.cut(positive.score, run)
    where = f"{margin.run}: " if margin.run else ""

    def above(video_id: str) -> str:
        score = scores.get(video_id)
        if score is None or score <= cut:
            return ""
        return f"{where}scores {score:.6g}, above {cut:.6g}; the query's own video {positive.score:.6g}"

    return above


@dataclass
class ChoosePairs(beam.PTransform):
    """(Ranking, (video_id, split), (video_id, near-duplicate group)) -> {"choices", "margin"}.

    "choices" are an (Assignment, reason, detail) of every candidate that was looked at, which ``LeaveOut`` parts;
    "margin" is the one FittedMargin that a quantile came to, not there where the margin is none.
    """

    depth: int
    margin: MarginRule | None = None
    quotas: dict[str, int] = field(default_factory=dict)

    def expand(
        self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]
    ) -> dict[str, beam.PCollection]:
        rankings, splits, near = (inputs[0], *map(beam.pvalue.AsDict, inputs[1:]))
        found: dict[str, beam.PCollection] = {}
        margin: MarginRule | beam.pvalue.AsSingleton | None = self.margin
        if self.margin is not None and self.margin.quantile is not None:
            ways = rankings | "Ways down" >> beam.FlatMap(_way_down, self.margin.run) | beam.combiners.ToList()
            found["margin"] = ways | "Margin" >> beam.Map(_fitted, self.margin)
            margin = beam.pvalue.AsSingleton(found["margin"] | "At" >> beam.Map(self.margin.at))
        found["choices"] = rankings | "Choose" >> beam.FlatMap(_choose, splits, near, self.depth, margin, self.quotas)
        return found


def _way_down(ranking: Ranking, run: str | None) -> Iterator[float]:
    if (way := way_down(ranking, run)) is not None:
        yield way


def _fitted(ways: Sequence[float], rule: MarginRule) -> FittedMargin:
    fitted = rule.fitted(ways)
    announce(
        f"mine.margin: quantile {rule.quantile:g} of {len(ways):,} queries comes to a spread of {fitted.spread:.4g}"
    )
    return fitted


def _choose(
    ranking: Ranking,
    splits: Mapping[str, Split],
    near: Mapping[str, str],
    depth: int,
    margin: MarginRule | None,
    quotas: Mapping[str, int],
) -> Iterator[tuple[Assignment, str, str]]:
    query = ranking.query

    def near_of(video_id: str) -> str:
        return near.get(video_id, video_id)  # a video that people name need not be in the corpus

    for choice in choose_pairs(ranking, splits.__getitem__, depth, near_of, margin, quotas):
        video_id, rank, score = choice.candidate.video_id, choice.candidate.rank, choice.candidate.score
        runs = tuple((place.run, place.rank, place.score) for place in ranking.places(video_id))
        own = video_id == query.video_id
        yield (video_id, query.query_id, query.text, own, rank, score, runs), choice.reason, choice.detail


@dataclass
class LeaveOut(beam.PTransform):
    """(Assignment, reason, detail) -> Assignment; those with a reason go to the tag "losses"."""

    def expand(self, choices: beam.PCollection) -> beam.pvalue.DoOutputsTuple:
        return choices | "Leave out" >> beam.FlatMapTuple(_leave_out).with_outputs(LOSSES, main="pairs")


def _leave_out(pair: Assignment, reason: str, detail: str) -> Iterator[Assignment | beam.pvalue.TaggedOutput]:
    if reason:
        video_id, query_id, *_ = pair
        yield lost(Loss("rejected", "mine", "guard", reason, detail, video_id, query_id))
    else:
        yield pair
