"""How the first stages of a run compare: what each found, alone and fused, of videos and of the negatives that stay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.outputs.run_lines import runs_of
from pipeline.outputs.tables import Row, Tables
from schemas.example import POSITIVES

FUSED = "fused"


@dataclass(slots=True)
class RunFigures:
    """One run. ``found`` queries have their own video in it, at the mean reciprocal rank ``mrr`` over all queries.

    Of the negatives that are kept in examples, ``negatives`` are among its first, and ``only`` among no other run's.
    """

    name: str
    found: int = 0
    mrr: float = 0.0
    negatives: int = 0
    only: int = 0


@dataclass(frozen=True, slots=True)
class FirstStages:
    """All runs of several first stages; the last is what they were fused to.

    ``queries`` are those whose video some run found, ``negatives`` all that are kept, ``first`` how many candidates a
    judge sees at most.
    """

    first: int
    queries: int
    negatives: int
    runs: tuple[RunFigures, ...]

    @property
    def worse(self) -> str:
        """The run that finds the queries' own videos better than the fused one does; "" where none does."""
        *inputs, fused = self.runs
        best = max(inputs, key=lambda run: run.mrr)
        return best.name if best.mrr > fused.mrr else ""

    @property
    def weaker_miner(self) -> tuple[RunFigures, RunFigures] | None:
        """The run that has most of the kept negatives among its first, and the best one, where that is another.

        A reranker of the best run is then trained on the mistakes of one that finds less.
        """
        inputs = self.runs[:-1]
        best = max(inputs, key=lambda run: run.mrr)
        miner = max(inputs, key=lambda run: (run.negatives, run.mrr))
        return (miner, best) if best.mrr > miner.mrr else None


def compare_first_stages(tables: Tables, recipe: Mapping[str, Any]) -> FirstStages | None:
    """The figures of several first stages; None where there is only one.

    A negative is among the first of a run by its rank in the whole corpus, of which a judge sees one split.
    """
    names = runs_of(recipe)
    if len(names) < 2:
        return None
    first = int(recipe["mine"]["candidates"])
    reciprocal = [_Reciprocal() for _ in (*names, FUSED)]
    queries = 0
    for row in tables.rows("queries", ["positive_rank", "positive_runs"]):
        ranks = [*_ranks(row["positive_runs"], names), row["positive_rank"]]
        if any(ranks):
            queries += 1
            for one, rank in zip(reciprocal, ranks, strict=True):
                one.add(rank)
    runs = [
        RunFigures(name, len(one.parts), math.fsum(one.parts) / max(1, queries))
        for name, one in zip((*names, FUSED), reciprocal, strict=True)
    ]
    negatives = 0
    for row in _kept_negatives(tables):
        negatives += 1
        among = [rank is not None and rank <= first for rank in _ranks(row["runs"], names)]
        for run, is_among in zip(runs, among, strict=False):
            run.negatives += is_among
            run.only += is_among and sum(among) == 1
        runs[-1].negatives += row["rank"] is not None and row["rank"] <= first
    return FirstStages(first, queries, negatives, tuple(runs))


@dataclass(slots=True)
class _Reciprocal:
    """Reciprocal ranks of the queries that were found."""

    parts: list[float] = field(default_factory=list)

    def add(self, rank: int | None) -> None:
        if rank:
            self.parts.append(1.0 / rank)


def _ranks(places: Sequence[Row], names: Sequence[str]) -> list[int | None]:
    by_run = {place["run"]: place["rank"] for place in places}
    return [by_run.get(name) for name in names]


def _kept_negatives(tables: Tables) -> Iterator[Row]:
    for row in tables.rows("judgements", ["stratum", "kept", "rank", "runs"]):
        if row["kept"] and row["stratum"] not in POSITIVES:
            yield row
