"""Whether the TREC files of an output can be read and say the same as its ranking examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

from pipeline.outputs.errors import UnreadableOutput
from pipeline.outputs.problem import Problem
from pipeline.outputs.run_lines import rankings, run_files, runs_of
from pipeline.outputs.tables import Row, Tables
from transforms.storage.files import join
from transforms.storage.trec import TrecError, read_qrels

QRELS = "qrels.trec"
Qrels = Mapping[str, Mapping[str, int]]

_CANDIDATES = ["query_id", *(f"candidates.list.element.{name}" for name in ("video_id", "label", "rank", "runs"))]


def check_trec(tables: Tables, recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything that is wrong with the runs and the qrels."""
    try:
        qrels = read_qrels(join(tables.output, QRELS))
    except TrecError as error:
        yield Problem(QRELS, f"cannot be read: {error}")
        qrels = None
    for file, run in run_files(runs_of(recipe)).items():
        yield from _check_run(tables, file, run, qrels or {})
    if qrels is not None:
        yield from _check_qrels(tables, qrels)


def _check_run(tables: Tables, file: str, run: str | None, qrels: Qrels) -> Iterator[Problem]:
    """Lines are grouped by query, ranks count from 1, scores fall, and what is judged stands where it must.

    Candidates of examples stand at their ranks. All videos of the qrels are in the run that a reranker is given: recall
    can reach 1. Without a name ``run`` is that one, which has every example's query.
    """
    expected = {
        row["query_id"]: {c["video_id"]: rank for c in row["candidates"] if (rank := _rank_in(run, c)) is not None}
        for row in tables.rows("ranking", _CANDIDATES)
    }
    videos = {row["video_id"] for row in tables.rows("videos", ["video_id"])}
    seen: set[str] = set()
    try:
        for query_id, placed in rankings(tables.output, file):
            if query_id in seen:
                yield Problem(file, "its lines do not stand together", query_id)
            seen.add(query_id)
            if [rank for _, rank, _ in placed] != list(range(1, len(placed) + 1)):
                yield Problem(file, "ranks do not count from 1", query_id)
            if any(next_score > score for (_, _, score), (_, _, next_score) in pairwise(placed)):
                yield Problem(file, "a score exceeds the one before it", query_id)
            ranks = {video_id: rank for video_id, rank, _ in placed}
            for video_id in sorted(ranks.keys() - videos):
                yield Problem(file, f"video {video_id!r} is not in videos", query_id)
            for video_id in sorted(qrels.get(query_id, {}).keys() - ranks.keys()) if run is None else ():
                yield Problem(QRELS, f"video {video_id!r} is judged, and not in the run", query_id)
            for video_id, rank in expected.get(query_id, {}).items():
                if ranks.get(video_id) != rank:
                    rule = f"rank {ranks.get(video_id)} in the run, {rank} in ranking"
                    yield Problem(file, rule, f"{query_id}:{video_id}")
    except UnreadableOutput as error:
        yield Problem(error.file, f"cannot be read: {error.reason}")
        return
    for query_id in sorted(query_id for query_id, ranks in expected.items() if ranks and query_id not in seen):
        yield Problem(file, "an example's query is not in the run", query_id)


def _rank_in(run: str | None, candidate: Row) -> int | None:
    """Where a candidate says that it stands in a run."""
    places = {None: candidate["rank"], **{place["run"]: place["rank"] for place in candidate["runs"]}}
    return places.get(run)


def _check_qrels(tables: Tables, qrels: Qrels) -> Iterator[Problem]:
    """Every example's positive is relevant, and none of its negatives is."""
    for row in tables.rows("ranking", _CANDIDATES):
        relevant = qrels.get(row["query_id"], {})
        for candidate in row["candidates"]:
            if (relevant.get(candidate["video_id"], 0) > 0) != (candidate["label"] == 1):
                where = f"{row['query_id']}:{candidate['video_id']}"
                yield Problem(QRELS, f"label {candidate['label']} in ranking, but not in the qrels", where)
