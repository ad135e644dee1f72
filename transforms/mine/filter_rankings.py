"""Mining filters: which queries the first stage can be trusted on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import apache_beam as beam
import msgspec

from schemas.check import require
from schemas.configuration.section import Section
from schemas.losses import Loss
from schemas.query import Candidate, Candidates, Query
from transforms.ledger import LOSSES, lost
from transforms.mine.retrieve import Ranking


class Ambiguity(Section, frozen=True):
    """When a query is dropped as its label is in doubt: by the ``ratio`` of scores, or by the ``rank`` of its video.

    Scores are those of one ``run``: a ratio of fused ones would be a cut by rank in disguise. Without a ``run``, it is
    the only one, and the rank is that among the fused candidates.
    """

    run: str | None = None
    ratio: Annotated[float, msgspec.Meta(ge=1)] | None = None
    rank: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        require((self.ratio is None) != (self.rank is None), "ambiguity has either a ratio or a rank", self)


PAPERS = Ambiguity(ratio=2.0)


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


def reject_reason(ranking: Ranking, rule: Ambiguity | None = PAPERS) -> tuple[str, str] | None:
    """The (reason, detail) for dropping a query after retrieval, or None.

    Reasons: "not in run" (nothing was retrieved at all), "not retrievable" (its video is not among the candidates),
    "ambiguous" (by the rule, if any). Other videos known to answer the query are no negatives.
    """
    if not ranking.candidates:
        return "not in run", "the first stage has no candidate for it"
    if ranking.positive is None:
        return "not retrievable", f"its video is not among the first {len(ranking.candidates)}"
    found = rule and _doubt(ranking, rule)
    return ("ambiguous", found) if found else None


def _doubt(ranking: Ranking, rule: Ambiguity) -> str:
    """Why the label is in doubt, or nothing.

    A run that did not find the video has no score for it, and thus no ratio: whether a video that shares no word with
    its query is its answer is not for BM25 to say. By rank such a video stands behind all others.
    """
    run = ranking.run(rule.run)
    where = f"{rule.run}: " if rule.run else ""
    positive = run.find(ranking.query.video_id)
    if rule.rank is not None:
        if positive is not None and positive.rank <= rule.rank:
            return ""
        return f"{where}its video is {f'at rank {positive.rank}' if positive else 'not found'}, beyond {rule.rank}"
    negative = next(negatives(ranking.query, run), None)
    if positive is None or negative is None or not is_ambiguous(positive.score, negative.score, rule.ratio or 1.0):
        return ""
    return f"{where}{negative.video_id} scores {negative.score:.6g}, its video {positive.score:.6g}"


def negatives(query: Query, candidates: Candidates) -> Iterator[Candidate]:
    """The candidates that are not known to answer the query, in order."""
    positives = {query.video_id, *query.also_relevant}
    return (candidate for candidate in candidates if candidate.video_id not in positives)


@dataclass
class FilterRankings(beam.PTransform):
    """Ranking -> Ranking; those that a filter drops go to the tag "losses"."""

    rule: Ambiguity | None = PAPERS

    def expand(self, rankings: beam.PCollection[Ranking]) -> beam.pvalue.DoOutputsTuple:
        return rankings | "Filter" >> beam.FlatMap(_filter, rule=self.rule).with_outputs(LOSSES, main="rankings")


def _filter(ranking: Ranking, rule: Ambiguity | None) -> Iterator[Ranking | beam.pvalue.TaggedOutput]:
    query = ranking.query
    found = reject_reason(ranking, rule)
    if found is None:
        yield ranking
    else:
        reason, detail = found
        yield lost(Loss("rejected", "mine", "filter", reason, detail, query.video_id, query.query_id))
