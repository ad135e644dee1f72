"""Whether the TREC files of an output can be read and say the same as its ranking examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.errors import UnreadableOutput
from pipeline.outputs.problem import Problem
from pipeline.outputs.run_lines import QRELS, Block, Placed, blocks, qrels_of, run_files, runs_of
from pipeline.outputs.tables import Tables
from pipeline.outputs.verify.columns import Mask, bounds, field, parents
from transforms.storage.trec import TrecError

Qrels = Mapping[str, Mapping[str, int]]

_CANDIDATES = ["query_id", *(f"candidates.list.element.{name}" for name in ("video_id", "label", "rank", "runs"))]


def check_trec(tables: Tables, recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """Everything that is wrong with the runs and the qrels."""
    try:
        qrels = qrels_of(tables.output)
    except TrecError as error:
        yield Problem(QRELS, f"cannot be read: {error}")
        qrels = None
    videos = _Videos(tables)
    for file, run in run_files(runs_of(recipe)).items():
        yield from _check_run(tables, file, run, qrels or {}, videos)
    if qrels is not None:
        yield from _check_qrels(tables, qrels)


def _check_run(tables: Tables, file: str, run: str | None, qrels: Qrels, videos: _Videos) -> Iterator[Problem]:
    """Lines are grouped by query, ranks count from 1, scores fall, and what is judged stands where it must.

    Candidates of examples stand at their ranks. All videos of the qrels are in the run that a reranker is given: recall
    can reach 1. Without a name ``run`` is that one, which has every example's query.
    """
    expected = {
        query_id: {video_id: rank for video_id, _, rank in candidates if rank is not None}
        for query_id, candidates in _examples(tables, run)
    }
    judged = qrels if run is None else {}
    seen: set[str] = set()
    try:
        for block in blocks(tables.output, file):
            clear = videos.clear(block)
            numbers = videos.numbers(block)
            for number, query_id in enumerate(block.queries):
                due = expected.get(query_id, {})
                found = numbers[block.starts[number] : block.starts[number + 1]]
                if query_id in seen or not (clear[number] and videos.stand(found, due, judged.get(query_id, {}))):
                    yield from _broken(file, query_id, block.placed(number), seen, due, judged, videos)
                seen.add(query_id)
    except UnreadableOutput as error:
        yield Problem(error.file, f"cannot be read: {error.reason}")
        return
    for query_id in sorted(query_id for query_id, ranks in expected.items() if ranks and query_id not in seen):
        yield Problem(file, "an example's query is not in the run", query_id)


class _Videos:
    """The videos of an output, by number."""

    def __init__(self, tables: Tables) -> None:
        self._ids = pa.array([row["video_id"] for row in tables.rows("videos", ["video_id"])], pa.string())
        self._number = {video_id: number for number, video_id in enumerate(self._ids.to_pylist())}

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._number

    def numbers(self, block: Block) -> list[int]:
        """The number of each line's video, -1 where it is not one of them."""
        found: list[int] = pc.fill_null(pc.index_in(block.videos, value_set=self._ids), -1).to_pylist()
        return found

    def clear(self, block: Block) -> Mask:
        """Which queries of a block have ranks that count from 1 and scores that fall."""
        starts, ends = np.array(block.starts[:-1]), np.array(block.starts[1:])
        of = np.repeat(np.arange(len(starts)), ends - starts)
        broken = block.ranks != np.arange(len(of)) - starts[of] + 1
        broken[1:] |= (block.scores[1:] > block.scores[:-1]) & (of[1:] == of[:-1])
        clear = np.ones(len(starts), bool)
        clear[of[broken]] = False
        return clear

    def stand(self, found: list[int], due: Mapping[str, int], judged: Mapping[str, int]) -> bool:
        """Whether a query's candidates (by number) are known, each there once, those due at their ranks, and all judged
        among them.
        """
        at = self._number.get
        once = set(found)
        return (
            len(once) == len(found)
            and -1 not in once
            and all(0 < rank <= len(found) and found[rank - 1] == at(video_id) for video_id, rank in due.items())
            and all(at(video_id) in once for video_id in judged)
        )


def _broken(
    file: str,
    query_id: str,
    placed: list[Placed],
    seen: set[str],
    due: Mapping[str, int],
    qrels: Qrels,
    videos: _Videos,
) -> Iterator[Problem]:
    """What is wrong with the lines of one query."""
    if query_id in seen:
        yield Problem(file, "its lines do not stand together", query_id)
    if [rank for _, rank, _ in placed] != list(range(1, len(placed) + 1)):
        yield Problem(file, "ranks do not count from 1", query_id)
    if any(next_score > score for (_, _, score), (_, _, next_score) in pairwise(placed)):
        yield Problem(file, "a score exceeds the one before it", query_id)
    ranks = {video_id: rank for video_id, rank, _ in placed}
    for video_id in sorted(video_id for video_id in ranks if video_id not in videos):
        yield Problem(file, f"video {video_id!r} is not in videos", query_id)
    for video_id in sorted(qrels.get(query_id, {}).keys() - ranks.keys()):
        yield Problem(QRELS, f"video {video_id!r} is judged, and not in the run", query_id)
    for video_id, rank in due.items():
        if ranks.get(video_id) != rank:
            rule = f"rank {ranks.get(video_id)} in the run, {rank} in ranking"
            yield Problem(file, rule, f"{query_id}:{video_id}")


def _examples(tables: Tables, run: str | None) -> Iterator[tuple[str, list[tuple[str, int, int | None]]]]:
    """The examples by query: of each candidate its video, its label, and where it says that it stands in a run."""
    for rows in tables.batches("ranking", _CANDIDATES):
        lists = rows.column("candidates")
        each = pc.list_flatten(lists)
        ranks: list[int | None] = field(each, "rank").to_pylist()
        if run is not None:
            places = pc.list_flatten(field(each, "runs"))
            ranks = [None] * len(each)
            of, names = parents(field(each, "runs")).tolist(), field(places, "run").to_pylist()
            for candidate, name, rank in zip(of, names, field(places, "rank").to_pylist(), strict=True):
                if name == run:
                    ranks[candidate] = rank
        candidates = list(
            zip(field(each, "video_id").to_pylist(), field(each, "label").to_pylist(), ranks, strict=True)
        )
        for query_id, (start, end) in zip(rows.column("query_id").to_pylist(), bounds(lists), strict=True):
            yield query_id, candidates[start:end]


def _check_qrels(tables: Tables, qrels: Qrels) -> Iterator[Problem]:
    """Every example's positive is relevant, and none of its negatives is."""
    for query_id, candidates in _examples(tables, None):
        relevant = qrels.get(query_id, {})
        for video_id, label, _ in candidates:
            if (relevant.get(video_id, 0) > 0) != (label == 1):
                rule = f"label {label} in ranking, but not in the qrels"
                yield Problem(QRELS, rule, f"{query_id}:{video_id}")
