"""A run turned round: of every video the queries that found it, however many pairs there are."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.run_lines import Block

_PARTS = 64


class Turned:
    """Pairs of a run, 8 bytes each: parted by video into files, of which one at a time is sorted in memory."""

    def __init__(self, video_ids: Sequence[str]) -> None:
        self._ids = sorted(video_ids)
        self._known = pa.array(self._ids, pa.string())
        self._queries: dict[str, int] = {}
        self._files = ExitStack()
        self._parts: list[BinaryIO] = []

    def __enter__(self) -> Turned:
        for _ in range(_PARTS):
            self._parts.append(self._files.enter_context(tempfile.TemporaryFile()))
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def places(self, block: Block) -> pa.Array:
        """Where the videos of a block's lines are among all, in the order of their ids; null those not known."""
        return pc.index_in(block.videos, value_set=self._known)

    def add(self, block: Block, places: pa.Array) -> None:
        """Note the pairs of a block, whose videos have these places."""
        numbers = [self._queries.setdefault(query_id, len(self._queries)) for query_id in block.queries]
        video = places.to_numpy().astype(np.int64)
        pairs = (video << 32) | np.repeat(numbers, np.diff(block.starts))
        part_of = video * _PARTS // max(1, len(self._ids))
        order = np.argsort(part_of, kind="stable")
        cuts = np.searchsorted(part_of[order], np.arange(_PARTS + 1))
        for part, start, end in zip(self._parts, cuts, cuts[1:], strict=False):
            part.write(pairs[order[start:end]].tobytes())

    def queries_by_video(self, written: Callable[[str], str]) -> Iterator[tuple[str, str]]:
        """(Video, its queries as they are ``written``, with commas between), both in the order of their ids."""
        ids = sorted(self._queries)
        texts = pa.array(map(written, ids), pa.string())
        place = np.empty(len(ids), np.int64)
        place[[self._queries[query_id] for query_id in ids]] = np.arange(len(ids))
        for part in self._parts:
            part.seek(0)
            pairs = np.frombuffer(part.read(), np.int64)
            pairs = np.sort((pairs >> 32 << 32) | place[pairs & 0xFFFFFFFF])
            video, query = pairs >> 32, pairs & 0xFFFFFFFF
            starts = np.flatnonzero(np.diff(video, prepend=-1))
            lists = joined([*starts.tolist(), len(query)], texts.take(pa.array(query)))
            yield from zip((self._ids[at] for at in video[starts].tolist()), lists, strict=True)


def joined(starts: Sequence[int], texts: pa.Array) -> list[str]:
    """Texts with commas between, those from each start up to the next as one."""
    found: list[str] = pc.binary_join(pa.ListArray.from_arrays(pa.array(starts, pa.int32()), texts), ", ").to_pylist()
    return found
