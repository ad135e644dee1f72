"""Evaluation of a run: nDCG and recall as trec_eval has them, significance, and breakdowns by kind of query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from schemas.query import Candidate

Qrels = Mapping[str, Mapping[str, int]]
Run = Mapping[str, Sequence[Candidate]]
PerQuery = dict[str, float]
Ties = Literal["trec_eval", "rank"]

CUTOFFS = (5, 10, 20, 50, 100)
MEASURES = tuple(f"{measure}@{k}" for measure in ("nDCG", "R") for k in CUTOFFS)
PERMUTATIONS = 10_000
_AT_ONCE = 500  # permutations held in memory
_ROUNDS = 1000  # of backfitting; a few dozen do


def per_query(qrels: Qrels, run: Run, ties: Ties = "trec_eval") -> dict[str, PerQuery]:
    """Each of MEASURES for every query of the qrels; a query that the run does not hold counts as 0.

    Scores tie where their 32-bit floats are equal. ``ties`` says what then decides: "trec_eval" puts the greater video
    id first, "rank" keeps the order of the candidates.
    """
    import ir_measures

    measures = {name: ir_measures.parse_measure(name) for name in MEASURES}
    scores = {
        query_id: {c.video_id: c.score if ties == "trec_eval" else -float(c.rank) for c in candidates}
        for query_id, candidates in run.items()
        if query_id in qrels
    }
    found = {name: dict.fromkeys(sorted(qrels), 0.0) for name in MEASURES}
    names = {measure: name for name, measure in measures.items()}
    for metric in ir_measures.iter_calc(list(measures.values()), {q: dict(rels) for q, rels in qrels.items()}, scores):
        found[names[metric.measure]][metric.query_id] = float(metric.value)
    return found


JUDGED_AT = (5, 10, 20)


def judged(qrels: Qrels, run: Run) -> dict[str, PerQuery]:
    """The share of the first k videos that the qrels say anything of, relevant or not, by "Judged@k" and query.

    As trec_eval's users have it (ir_measures' Judged@k): of at most as many videos as were retrieved; 0 of none. Where
    it is low, a measure says as much of who was asked about as of the run: MultiVENT 2.0's first runs had 0.39 at 10.
    """
    return {
        f"Judged@{k}": {
            query_id: _share([c.video_id in grades for c in run.get(query_id, ())[:k]])
            for query_id, grades in sorted(qrels.items())
        }
        for k in JUDGED_AT
    }


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def by_positives(qrels: Qrels) -> dict[str, list[str]]:
    """How many relevant videos each query has, as a property of it: "1", "2", "3-5", "6-10" or "more"."""
    bands = ((0, "none"), (1, "1"), (2, "2"), (5, "3-5"), (10, "6-10"))
    counts = {query_id: sum(grade > 0 for grade in grades.values()) for query_id, grades in qrels.items()}
    return {
        query_id: [next((name for most, name in bands if count <= most), "more")] for query_id, count in counts.items()
    }


def mean(values: Mapping[str, float], queries: Sequence[str] | None = None) -> float:
    """The mean over all queries, or over some."""
    chosen = list(values) if queries is None else queries
    return sum(values[query_id] for query_id in chosen) / len(chosen)


def permutation_p(a: Mapping[str, float], b: Mapping[str, float], seed: int = 0) -> float:
    """The two-sided p-value that two systems are alike, by a paired permutation test on the mean difference.

    The sign of each query's difference is flipped by chance PERMUTATIONS times; p counts those whose mean is at least
    as far from 0 as the observed one, and the observed one itself. Smucker, Allan and Carterette (CIKM 2007).
    """
    difference = np.array([a[query_id] - b[query_id] for query_id in sorted(a)])
    observed = abs(difference.mean()) - 1e-12  # sums in another order round differently
    rng = np.random.default_rng(seed)
    extreme = 0
    for _ in range(PERMUTATIONS // _AT_ONCE):
        signs = rng.integers(0, 2, size=(_AT_ONCE, len(difference)), dtype=np.int8) * 2 - 1
        extreme += int((np.abs(signs @ difference) / len(difference) >= observed).sum())
    return (1 + extreme) / (1 + PERMUTATIONS)


@dataclass(frozen=True, slots=True)
class Group:
    """Queries that share a value of a property, such as query_type "ocr", and their mean measures."""

    property: str
    value: str
    queries: int
    means: Mapping[str, float]


def breakdown(found: Mapping[str, PerQuery], values: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Group]:
    """Mean measures by each value of each property; ``values`` gives property -> query id -> its values.

    A query of several values (modalities) counts in each of their groups; one without any is in none.
    """
    groups = []
    for name, by_query in values.items():
        members: dict[str, list[str]] = {}
        for query_id in next(iter(found.values())):
            for value in by_query.get(query_id, ()):
                members.setdefault(value, []).append(query_id)
        for value, queries in sorted(members.items(), key=lambda item: (item[0] == "more", *_in_order(item[0]))):
            means = {measure: mean(per, queries) for measure, per in found.items()}
            groups.append(Group(name, value, len(queries), means))
    return groups


def _in_order(value: str) -> tuple[int, str]:
    """Numbers by their size, other values by their letters."""
    number = value.partition("-")[0]
    return (int(number), value) if number.isdigit() else (0, value)


@dataclass(frozen=True, slots=True)
class Corpus:
    """What was searched: how many videos, where that is known, and what an oracle may have told of them.

    ``reads`` says by run which evidence the first stage read; ``metadata`` among it is what publishers wrote, which a
    system that only sees and hears a video has not.
    """

    videos: int | None = None
    reads: Mapping[str, Sequence[str]] | None = None


@dataclass(frozen=True, slots=True)
class ScoreCurves:
    """The scores of retrieved pairs, ascending, relevant and not: their empirical distributions."""

    relevant: NDArray[np.float64]
    other: NDArray[np.float64]


def score_curves(qrels: Qrels, run: Run) -> ScoreCurves:
    """Of every retrieved pair of the qrels' queries; a video without a qrel is not relevant."""
    relevant: list[float] = []
    other: list[float] = []
    for query_id, grades in qrels.items():
        for candidate in run.get(query_id, ()):
            (relevant if grades.get(candidate.video_id, 0) > 0 else other).append(candidate.score)
    return ScoreCurves(np.sort(np.array(relevant, float)), np.sort(np.array(other, float)))


@dataclass(frozen=True, slots=True)
class Priors:
    """The share of the scores' variance that is explained by the query alone, the video alone, and both added up.

    What is left is what the model says of a pair. A high share of the video alone means that some videos score high
    whatever is asked.
    """

    query: float
    video: float
    both: float


def priors(run: Run) -> Priors | None:
    """Variance of scores explained by query and by video, from means; None where all scores are equal."""
    pairs = [(query_id, c.video_id, c.score) for query_id, candidates in sorted(run.items()) for c in candidates]
    if not pairs:
        return None
    scores = np.array([score for *_, score in pairs], float)
    queries = np.unique([query_id for query_id, _, _ in pairs], return_inverse=True)[1]
    videos = np.unique([video_id for _, video_id, _ in pairs], return_inverse=True)[1]
    total = float(np.var(scores))
    if total < 1e-24:
        return None

    def explained(residual: NDArray[np.float64]) -> float:
        return 1.0 - float(np.var(residual)) / total

    by_query, by_video = (_centred(scores, by) for by in (queries, videos))
    return Priors(explained(by_query), explained(by_video), explained(_without_both(scores, queries, videos)))


def _centred(values: NDArray[np.float64], by: NDArray[np.intp]) -> NDArray[np.float64]:
    return values - (np.bincount(by, values) / np.bincount(by))[by]


def _without_both(
    scores: NDArray[np.float64], queries: NDArray[np.intp], videos: NDArray[np.intp], tolerance: float = 1e-10
) -> NDArray[np.float64]:
    """Residuals of the additive model, by backfitting: the means of each are taken out in turn until none are left."""
    residual, last = scores, scores + 1.0
    for _ in range(_ROUNDS):
        if float(np.abs(residual - last).max()) < tolerance:
            break
        residual, last = _centred(_centred(residual, queries), videos), residual
    return residual
