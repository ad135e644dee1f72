"""What the output of an earlier run tells of some of its videos: their queries, the pairs of these, and evidence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.tables import Row, Tables, evidence_of
from schemas.check import read_json, read_plain
from schemas.video import MediaFacts, Video

_NEAR_DUPLICATE = "near duplicate"  # why a query is dropped for another one, which may be any video's
_LOST = ("rejections", "failures")  # the tables of pairs that have no judgement
_SHOWN = ("video_id", "uri", "media", "metadata", "caption", "asr", "ocr")


class ToldPair(NamedTuple):
    """A video that the judge was given with a query; without a judgement nothing tells its place in the ranking."""

    video_id: str
    is_own: bool
    rank: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Told:
    """What became of a query: ``pairs`` that the judge was given, its own video first, then by rank.

    ``more`` are other candidates that it would have by now, ``dropped`` is why it came to have none at all.
    """

    text: str
    video_id: str
    pairs: tuple[ToldPair, ...] = ()
    more: int = 0
    dropped: str = ""


@dataclass(frozen=True, slots=True)
class Depth:
    """How many negatives a query got at most ``before``, and gets ``now``."""

    before: int
    now: int


@dataclass(frozen=True)
class Recalled:
    """Queries by id, and the file of what the judge is shown of their ``videos``, "" where there is nothing to tell.

    ``own`` are the ids of videos that need not be told of.
    """

    queries: Mapping[str, Told] = field(default_factory=dict)
    path: str = ""
    own: frozenset[str] = frozenset()

    def videos(self) -> Iterator[Video]:
        """All videos but its own."""
        if self.path:
            with open(self.path, "rb") as lines:
                videos = (read_json(line, Video) for line in lines)
                yield from (video for video in videos if video.video_id not in self.own)


def recalled_from(
    tables: Tables, videos: Collection[str], present: Collection[str], depth: Depth, path: Path
) -> Recalled:
    """What there is to tell of the queries of these ``videos``, where of all videos those ``present`` are left.

    It is read by columns, a batch at a time; the evidence of all videos that the judge was given goes to ``path``.
    A query is left out of which the output does not tell what was found for it.

    Raises:
        UnreadableOutput: a shard is missing or damaged.
    """
    columns = ["query_id", "video_id", "text", "verdict", "stage", "reason"]
    asked = {row["query_id"]: row for row in _rows(tables, "queries", columns, "video_id", videos)}
    pairs = _pairs(tables, asked)
    queries = {}
    for query_id, row in asked.items():
        told = Told(row["text"], row["video_id"])
        if row["stage"] in ("synthesize", "mine"):
            if row["verdict"] == "dropped" and (row["stage"] == "mine" or row["reason"] == _NEAR_DUPLICATE):
                queries[query_id] = replace(told, dropped=row["reason"])
        elif pairs[query_id]:
            queries[query_id] = _chosen(told, pairs[query_id], present, depth, row["verdict"] == "deferred")
    shown = {pair.video_id for told in queries.values() for pair in told.pairs}
    with path.open("wb") as file:
        for row in _rows(tables, "videos", _SHOWN, "video_id", shown):
            video = Video(row["video_id"], row["uri"], read_plain(row["media"], MediaFacts), evidence_of(row))
            file.write(msgspec.json.encode(video) + b"\n")
    return Recalled(queries, str(path))


def _chosen(told: Told, found: Iterable[ToldPair], present: Collection[str], depth: Depth, waits: bool) -> Told:
    """With the pairs that are still its own: of videos that are there, as deep as is asked for now."""
    ranked = sorted(found, key=lambda pair: (pair.rank is None, pair.rank or 0, pair.video_id))
    own, others = [pair for pair in ranked if pair.is_own], [pair for pair in ranked if not pair.is_own]
    # A ranking that ended before the depth has no more to give, unless some of its pairs were left for a later run.
    ended = len(others) < depth.before and not waits
    due = min(depth.now, len(others)) if ended else depth.now
    kept = [pair for pair in others if pair.video_id in present][:due]
    return replace(told, pairs=(*own, *kept), more=due - len(kept))


def _pairs(tables: Tables, asked: Mapping[str, Row]) -> Mapping[str, list[ToldPair]]:
    """The pairs of each query that its first judge was given."""
    found: defaultdict[str, list[ToldPair]] = defaultdict(list)
    columns = ["query_id", "video_id", "is_positive", "rank", "score"]
    for row in _rows(tables, "judgements", columns, "query_id", asked):
        pair = ToldPair(row["video_id"], row["is_positive"], row["rank"], row["score"] or 0.0)
        found[row["query_id"]].append(pair)
    for table in _LOST:
        for row in _rows(tables, table, ["stage", "step", "query_id", "video_id"], "query_id", asked):
            if (row["stage"], row["step"]) == ("judge", "judge"):
                is_own = row["video_id"] == asked[row["query_id"]]["video_id"]
                found[row["query_id"]].append(ToldPair(row["video_id"], is_own, None, 0.0))
    return found


def _rows(tables: Tables, table: str, columns: Sequence[str], column: str, wanted: Collection[str]) -> Iterator[Row]:
    """The rows of a table whose value in a column is wanted."""
    values = pa.array(sorted(wanted), pa.string())
    for batch in tables.batches(table, columns):
        yield from batch.filter(pc.is_in(batch[column], values)).to_pylist()
