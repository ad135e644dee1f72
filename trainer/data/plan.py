"""The plan of a training run: every item of every epoch in the order of training, drawn before the first step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.fingerprint import unit_interval
from trainer.data.examples import Candidate, CaptionExample, QueryExample
from trainer.data.shards import DataError

_SCHEMA = pa.schema(
    [("step", pa.int64()), ("epoch", pa.int32()), ("key", pa.string()), ("video_ids", pa.list_(pa.string()))]
)


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """An item of the plan: the optimizer step that it is part of, its query (or video) and its videos in order."""

    step: int
    epoch: int
    key: str
    video_ids: tuple[str, ...]


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
    pq.write_table(pa.Table.from_pylist([asdict(item) for item in items], schema=_SCHEMA), path)


def read_plan(path: Path) -> list[PlannedItem]:
    """The plan that ``write_plan`` wrote."""
    rows: list[dict[str, Any]] = pq.read_table(path, use_threads=False).to_pylist()
    return [PlannedItem(**row | {"video_ids": tuple(row["video_ids"])}) for row in rows]
