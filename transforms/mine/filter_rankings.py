"""Mining filters: which queries the first stage can be trusted on, and which of their candidates the teacher judges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apache_beam as beam

from schemas.example import Split
from schemas.losses import Loss
from schemas.query import Candidate
from transforms.ledger import LOSSES, lost
from transforms.mine.retrieve import Ranking


def is_ambiguous(positive_score: float, top_negative_score: float, ratio: float) -> bool:
    """Whether the best negative beats the positive by so much that the label itself is in doubt.

    RankVideo (arXiv 2602.02444, section 3) drops a query whose top negative scores more than ``ratio`` (2) times its
    positive, which makes sense for scores >= 0 only: at -4 against -3 it would drop every query. We ask whether the
    *gap* exceeds (ratio - 1) * |positive|. For positive >= 0 that is the paper's rule, whatever the negative's sign; a
    positive ranked first is never ambiguous; at positive = 0 any higher negative is; for a positive below zero the
    negative may lie |positive| * (ratio - 1) above it. Like the paper's it is invariant to scaling the scores but not
    to shifting them, so that for retrievers with an arbitrary zero (log-probabilities, say) the ratio needs tuning.
    """
    return top_negative_score - positive_score > (ratio - 1) * abs(positive_score)


def reject_reason(ranking: Ranking, ratio: float) -> tuple[str, str] | None:
    """The (reason, detail) for dropping a query after retrieval, or None.

    Reasons: "not in run" (nothing was retrieved at all), "not retrievable" (its video is not among the candidates),
    "ambiguous" (see ``is_ambiguous``). Other videos known to answer the query are no negatives.
    """
    if not ranking.candidates:
        return "not in run", "the first stage has no candidate for it"
    if ranking.positive is None:
        return "not retrievable", f"its video is not among the first {len(ranking.candidates)}"
    negative = next(_negatives(ranking), None)
    if negative is not None and is_ambiguous(ranking.positive.score, negative.score, ratio):
        return "ambiguous", f"{negative.video_id} scores {negative.score:.6g}, its video {ranking.positive.score:.6g}"
    return None


def candidates_to_judge(ranking: Ranking, split_of: Callable[[str], Split], depth: int) -> tuple[Candidate, ...]:
    """The positive, then the ``depth`` best negatives of its split (by video id), other known positives left out.

    Raises:
        ValueError: the positive was not retrieved; such queries are dropped first.
    """
    if ranking.positive is None:
        raise ValueError(f"the positive of query {ranking.query.query_id!r} was not retrieved")
    split = split_of(ranking.positive.video_id)
    negatives = [c for c in _negatives(ranking) if split_of(c.video_id) == split]
    return (ranking.positive, *negatives[:depth])


def _negatives(ranking: Ranking) -> Iterator[Candidate]:
    positives = {ranking.query.video_id, *ranking.query.also_relevant}
    return (candidate for candidate in ranking.candidates if candidate.video_id not in positives)


@dataclass
class FilterRankings(beam.PTransform):
    """Ranking -> Ranking; those that a filter drops go to the tag "losses"."""

    ratio: float = 2.0

    def expand(self, rankings: beam.PCollection[Ranking]) -> beam.pvalue.DoOutputsTuple:
        return rankings | "Filter" >> beam.FlatMap(_filter, ratio=self.ratio).with_outputs(LOSSES, main="rankings")


def _filter(ranking: Ranking, ratio: float) -> Iterator[Ranking | beam.pvalue.TaggedOutput]:
    query = ranking.query
    found = reject_reason(ranking, ratio)
    if found is None:
        yield ranking
    else:
        reason, detail = found
        yield lost(Loss("rejected", "mine", "filter", reason, detail, query.video_id, query.query_id))
