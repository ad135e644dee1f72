"""The plan of a training run: every item of every epoch in the order of training, drawn before the first step."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.fingerprint import unit_interval
from trainer.data.columns import Examples
from trainer.data.examples import CaptionExample, QueryExample, VideoExample
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

_AT_ONCE = 8192  # items that are made at a time, when all are


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


class Plan(Sequence[PlannedItem]):
    """The items of a plan in columns, each made when it is taken."""

    def __init__(self, table: pa.Table) -> None:
        self.table = table

    @classmethod
    def of(cls, items: Iterable[PlannedItem]) -> Plan:
        """The plan of these items, of which few are held at a time."""
        batches, rest = [], iter(items)
        while some := list(islice(rest, _AT_ONCE)):
            columns = [pa.array([getattr(item, field.name) for item in some], field.type) for field in _SCHEMA]
            batches.append(pa.RecordBatch.from_arrays(columns, schema=_SCHEMA))
        return cls(pa.Table.from_batches(batches, _SCHEMA))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[PlannedItem]:
        for batch in self.table.to_batches(max_chunksize=_AT_ONCE):
            yield from map(_item, batch.to_pylist())

    @overload
    def __getitem__(self, at: int) -> PlannedItem: ...
    @overload
    def __getitem__(self, at: slice) -> list[PlannedItem]: ...
    def __getitem__(self, at: int | slice) -> PlannedItem | list[PlannedItem]:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        return _item(self.table.slice(range(len(self))[at], 1).to_pylist()[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]


def _item(row: dict[str, Any]) -> PlannedItem:
    return PlannedItem(**row | {name: tuple(row[name]) for name in ("video_ids", "query_ids")})


def plan_queries(
    examples: Examples[QueryExample], *, epochs: int, batch: int, positives: int, negatives: int, seed: int
) -> Plan:
    """Query groups of up to ``positives`` and up to ``negatives`` drawn negatives, each query once an epoch.

    The first positive is the video that the query was written for, others are drawn. A query that has fewer is given
    all it has: none is taken twice, which would double its share of the softmax. What is drawn for a query follows from
    the seed, the epoch and its id alone.
    """
    order = examples.by_key
    bounds, named = examples.candidates("video_id")
    encoded = named.dictionary_encode()  # ids by the million, of few videos
    video_ids = np.array(encoded.dictionary.to_pylist(), object)[encoded.indices.to_numpy()]
    ones = np.concatenate([[0], np.cumsum(examples.candidates("label")[1])])[bounds]  # before each example
    rng = random.Random()

    def draw(place: int, key: str, epoch: int) -> tuple[str, ...]:
        row = order[place]
        first, *others = video_ids[bounds[row] : bounds[row + 1]].tolist()
        more = ones[row + 1] - ones[row] - 1  # positives come first
        rng.seed(f"{seed}:{epoch}:{key}")  # what Random would be of it, without a new one's 2.5 kB
        drawn = _drawn(rng, others[more:], negatives)
        return (first, *_drawn(rng, others[:more], positives - 1), *drawn)

    return Plan.of(_planned(examples.keys.take(order).to_pylist(), draw, epochs, batch, seed))


def _drawn(rng: random.Random, pool: Collection[str], most: int) -> list[str]:
    most = min(most, len(pool))
    return rng.sample(sorted(pool), most) if most else []


def by_video_in_turn(plan: Plan, groups: Examples[VideoExample], *, share: float, negatives: int, seed: int) -> Plan:
    """The plan with a ``share`` of the turns of each query given to the group of its video, if it has one.

    That is its video with the query itself and up to ``negatives`` drawn others: as many items as before. What is drawn
    follows from the seed, the epoch and the query's id alone.
    """

    def turned(item: PlannedItem) -> PlannedItem:
        turn = f"{seed}:{item.epoch}:{item.key}:by video"
        if unit_interval(turn) >= share or (place := groups.place(item.key)) is None:
            return item
        group = groups[place]
        drawn = _drawn(random.Random(turn), [candidate.query_id for candidate in group.negatives], negatives)
        return replace(item, video_ids=(group.video_id,), query_ids=(group.query_id, *drawn))

    return Plan.of(map(turned, plan)) if len(groups) and share else plan


def plan_captions(examples: Examples[CaptionExample], *, epochs: int, batch: int, seed: int) -> Plan:
    """One caption a video, each video once an epoch."""
    keys = examples.keys.take(examples.by_key).to_pylist()
    return Plan.of(_planned(keys, lambda place, key, epoch: (key,), epochs, batch, seed))


def _planned(
    keys: Sequence[str], draw: Callable[[int, str, int], tuple[str, ...]], epochs: int, batch: int, seed: int
) -> Iterator[PlannedItem]:
    """All of the sorted keys once an epoch, in an order drawn for it; what follows fills the last step.

    So every step is whole, on any number of devices, and nothing is left out or trained on twice within an epoch.
    ``draw`` has a key's place, the key and the epoch.
    """
    if not keys:
        raise DataError("there is nothing to train on: no example is left")
    total = -(-len(keys) * epochs // batch) * batch
    for epoch in range(-(-total // len(keys))):
        first = epoch * len(keys)
        for at, place in enumerate(_shuffled(keys, f"{seed}:{epoch}")[: total - first], start=first):
            yield PlannedItem(at // batch, epoch, keys[place], draw(place, keys[place], epoch))


def _shuffled(keys: Sequence[str], salt: str) -> npt.NDArray[np.int64]:
    """Places of sorted keys, by what is drawn for each; where that is the same, by key."""
    drawn = np.fromiter((unit_interval(f"{salt}:{key}") for key in keys), np.float64, len(keys))
    return drawn.argsort(kind="stable")


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan as a Parquet file, to be read by people and compared by a run that is resumed."""
    pq.write_table(plan.table.combine_chunks(), path)  # of one piece, so that its bytes follow from the items alone
    pa.default_memory_pool().release_unused()


def read_plan(path: Path) -> Plan:
    """The plan that ``write_plan`` wrote."""
    return Plan(pq.read_table(path, use_threads=False).cast(_SCHEMA))
