"""The plan of a training run: every item of every epoch in the order of training, drawn before the first step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.fingerprint import unit_interval
from trainer.data.examples import Candidate, CaptionExample, QueryExample, VideoExample
from trainer.data.shards import DataError

_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.int32()),
        ("key", pa.string()),
        ("video_ids", pa.list_(pa.string())),
        ("query_ids", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """An item of the plan: the optimizer step that it is part of, its query (or video) and its videos in order.

    Of a group of one video ``query_ids`` are its queries in order; there are none of a group of one query.
    """

    step: int
    epoch: int
    key: str
    video_ids: tuple[str, ...]
    query_ids: tuple[str, ...] = ()


def plan_queries(
    examples: Sequence[QueryExample], *, epochs: int, batch: int, positives: int, negatives: int, seed: int
) -> list[PlannedItem]:
    """Query groups of up to ``positives`` and up to ``negatives`` drawn negatives, each query once an epoch.

    The first positive is the video that the query was written for, others are drawn. A query that has fewer is given
    all it has: none is taken twice, which would double its share of the softmax. What is drawn for a query follows from
    the seed, the epoch and its id alone.
    """
    videos = {example.query_id: example for example in examples}

    def draw(key: str, epoch: int) -> tuple[str, ...]:
        example = videos[key]
        rng = random.Random(f"{seed}:{epoch}:{key}")
        drawn = _drawn(rng, example.negatives, negatives)
        return (example.positive.video_id, *_drawn(rng, example.positives[1:], positives - 1), *drawn)

    return _plan(videos, draw, epochs, batch, seed)


def _drawn(rng: random.Random, candidates: Iterable[Candidate], most: int) -> list[str]:
    pool = sorted(candidate.video_id for candidate in candidates)
    return rng.sample(pool, min(most, len(pool)))


def by_video_in_turn(
    items: Sequence[PlannedItem], groups: Sequence[VideoExample], *, share: float, negatives: int, seed: int
) -> list[PlannedItem]:
    """The plan with a ``share`` of the turns of each query given to the group of its video, if it has one.

    That is its video with the query itself and up to ``negatives`` drawn others: as many items as before. What is drawn
    follows from the seed, the epoch and the query's id alone.
    """
    by_id = {group.query_id: group for group in groups}

    def turned(item: PlannedItem) -> PlannedItem:
        turn, group = f"{seed}:{item.epoch}:{item.key}:by video", by_id.get(item.key)
        if group is None or unit_interval(turn) >= share:
            return item
        pool = sorted(candidate.query_id for candidate in group.negatives)
        drawn = random.Random(turn).sample(pool, min(negatives, len(pool)))
        return replace(item, video_ids=(group.video_id,), query_ids=(group.query_id, *drawn))

    return [turned(item) for item in items]


def plan_captions(examples: Sequence[CaptionExample], *, epochs: int, batch: int, seed: int) -> list[PlannedItem]:
    """One caption a video, each video once an epoch."""
    return _plan([example.video_id for example in examples], lambda key, _: (key,), epochs, batch, seed)


def _plan(
    keys: Iterable[str], draw: Callable[[str, int], tuple[str, ...]], epochs: int, batch: int, seed: int
) -> list[PlannedItem]:
    """All keys once an epoch, in an order drawn for it; the last step is filled from the epoch that would follow.

    So every step is whole, on any number of devices, and nothing is left out or trained on twice within an epoch.
    """
    keys = sorted(keys)
    if not keys:
        raise DataError("there is nothing to train on: no example is left")
    total = -(-len(keys) * epochs // batch) * batch
    items: list[PlannedItem] = []
    epoch = 0
    while len(items) < total:
        for key in _shuffled(keys, f"{seed}:{epoch}"):
            items.append(PlannedItem(len(items) // batch, epoch, key, draw(key, epoch)))
        epoch += 1
    return items[:total]


def _shuffled(keys: Iterable[str], salt: str) -> list[str]:
    return sorted(keys, key=lambda key: (unit_interval(f"{salt}:{key}"), key))


def write_plan(path: Path, items: Sequence[PlannedItem]) -> None:
    """Write a plan as a Parquet file, to be read by people and compared by a run that is resumed."""
    # A column at a time: there is a row for every item of every epoch.
    columns = [pa.array((getattr(item, field.name) for item in items), field.type) for field in _SCHEMA]
    pq.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA), path)


def read_plan(path: Path) -> list[PlannedItem]:
    """The plan that ``write_plan`` wrote."""
    rows: list[dict[str, Any]] = pq.read_table(path, use_threads=False).to_pylist()
    lists = ("video_ids", "query_ids")
    return [PlannedItem(**row | {name: tuple(row[name]) for name in lists if name in row}) for row in rows]
