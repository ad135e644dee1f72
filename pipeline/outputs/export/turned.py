"""A run turned round: of every video the queries that found it, however many pairs there are."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
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

    def add(self, block: Block) -> str | None:
        """Note the pairs of a block; returns a video that is none of those known, if there is one."""
        videos = pc.index_in(block.videos, value_set=self._known)
        if videos.null_count:
            unknown: str = block.videos.filter(videos.is_null())[0].as_py()
            return unknown
        numbers = [self._queries.setdefault(query_id, len(self._queries)) for query_id in block.queries]
        video = videos.to_numpy().astype(np.int64)
        pairs = (video << 32) | np.repeat(numbers, np.diff(block.starts))
        part_of = video * _PARTS // max(1, len(self._ids))
        order = np.argsort(part_of, kind="stable")
        cuts = np.searchsorted(part_of[order], np.arange(_PARTS + 1))
        for part, start, end in zip(self._parts, cuts, cuts[1:], strict=False):
            part.write(pairs[order[start:end]].tobytes())
        return None

    def queries_by_video(self) -> Iterator[tuple[str, list[str]]]:
        """(Video, its queries), both in the order of their ids."""
        ids = sorted(self._queries)
        place = np.empty(len(ids), np.int64)
        place[[self._queries[query_id] for query_id in ids]] = np.arange(len(ids))
        for part in self._parts:
            part.seek(0)
            pairs = np.frombuffer(part.read(), np.int64)
            pairs = np.sort((pairs >> 32 << 32) | place[pairs & 0xFFFFFFFF])
            video, query = pairs >> 32, (pairs & 0xFFFFFFFF).tolist()
            starts = np.flatnonzero(np.diff(video, prepend=-1)).tolist()
            for start, end in zip(starts, [*starts, len(query)][1:], strict=True):
                yield self._ids[video[start]], [ids[number] for number in query[start:end]]
