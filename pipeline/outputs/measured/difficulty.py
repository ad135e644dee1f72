"""How hard queries are by measure, beside how hard their writer says they are: ranks, margins, and how specific.

No call is made for it: ranks are those of the first stages, margins those of the judge.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from pipeline.outputs.run_lines import runs_of
from pipeline.outputs.tables import Row, Tables
from schemas.difficulty import HIGHEST

STATED = ("none", "one", "two", "more")
"""On how many dimensions of difficulty a query hinges, as its writer rates it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of a query that was judged.

    ``ranks`` are those of its own video by run, None where a run does not hold it. ``gap`` is by how many nats the
    judge is surer of its own video than of the best other, ``spread`` the distance of the lowest and the highest margin
    of all; None where too few are known. ``rivals`` are the other videos that the judge cannot tell from its own: as
    high a margin or higher, or a yes where a margin is missing. A specific query has none.
    """

    query_id: str
    ranks: Mapping[str, int | None]
    gap: float | None
    spread: float | None
    rivals: int
    judged: int


def measure(ranks: Mapping[str, int | None], pairs: Sequence[Row]) -> Measured:
    """Of one query, from all of its judged pairs; its own video must be among them."""
    own = next(pair for pair in pairs if pair["is_positive"])
    others = [pair for pair in pairs if not pair["is_positive"]]
    known = [pair["delta"] for pair in others if pair["delta"] is not None]
    all_known = [*known, *([] if own["delta"] is None else [own["delta"]])]
    return Measured(
        query_id=own["query_id"],
        ranks=ranks,
        gap=None if own["delta"] is None or not known else own["delta"] - max(known),
        spread=max(all_known) - min(all_known) if len(all_known) > 1 else None,
        rivals=sum(_cannot_be_told(own, other) for other in others),
        judged=len(others),
    )


def _cannot_be_told(own: Row, other: Row) -> bool:
    if own["delta"] is None or other["delta"] is None:
        return bool(other["label"] == "yes")
    return bool(other["delta"] >= own["delta"])


@dataclass(frozen=True, slots=True)
class Level:
    """Queries of one stated level (``name``): how many were judged, and the medians of what was measured of them.

    A run that does not hold a query's own video counts as a rank below all. ``specific`` is the share without a rival,
    ``rivals`` the mean number.
    """

    name: str
    queries: int
    ranks: Mapping[str, int | None]
    gap: float | None
    spread: float | None
    specific: float
    rivals: float


def levels(tables: Tables, recipe: Mapping[str, Any]) -> list[Level]:
    """Every stated level that occurs among judged queries, and "not rated" last; none where nothing was judged."""
    runs = runs_of(recipe)
    stated: dict[str, tuple[str, dict[str, int | None]]] = {}
    for row in tables.rows("queries", ["query_id", "difficulty.rated", "positive_rank", "positive_runs"]):
        if row["positive_rank"] is not None:
            stated[row["query_id"]] = _stated(row), _ranks(row, runs)
    found: defaultdict[str, list[Measured]] = defaultdict(list)
    for query_id, pairs in _by_query(tables):
        if query_id in stated and any(pair["is_positive"] for pair in pairs):
            level, ranks = stated[query_id]
            found[level].append(measure(ranks, pairs))
    return [_level(name, found[name]) for name in (*STATED, "not rated") if found[name]]


def _ranks(row: Row, runs: Sequence[str]) -> dict[str, int | None]:
    """The ranks of a query's own video: of the only first stage, or of each of several and as they were fused."""
    if len(runs) < 2:
        return {"first stage": row["positive_rank"]}
    by_run = {place["run"]: place["rank"] for place in row["positive_runs"] or ()}
    return {**{name: by_run.get(name) for name in runs}, "fused": row["positive_rank"]}


def _stated(row: Row) -> str:
    rated = (row["difficulty"] or {}).get("rated")
    if not rated:
        return "not rated"
    return STATED[min(sum(rating == HIGHEST for rating in rated.values()), len(STATED) - 1)]


def _by_query(tables: Tables) -> Iterator[tuple[str, list[Row]]]:
    """Queries with their judged pairs; those of a query are in one shard, one after the other."""
    at: str | None = None
    pairs: list[Row] = []
    for row in tables.rows("judgements", ["query_id", "video_id", "is_positive", "label", "delta"]):
        if at is not None and row["query_id"] != at:
            yield at, pairs
            pairs = []
        at = row["query_id"]
        pairs.append(row)
    if at is not None:
        yield at, pairs


def _level(name: str, found: Sequence[Measured]) -> Level:
    below = float("inf")
    ranks = {}
    for run in found[0].ranks:
        middle = median(below if (rank := one.ranks[run]) is None else rank for one in found)
        ranks[run] = None if middle == below else round(middle)
    return Level(
        name=name,
        queries=len(found),
        ranks=ranks,
        gap=_median(one.gap for one in found),
        spread=_median(one.spread for one in found),
        specific=sum(not one.rivals for one in found) / len(found),
        rivals=sum(one.rivals for one in found) / len(found),
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
