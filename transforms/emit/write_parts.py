"""Text files too large for one worker: written in parts in parallel, joined in order at the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import apache_beam as beam

from transforms.emit.shards import shard_index
from transforms.storage.files import delete, exists, join, open_seekable, replacing
from transforms.storage.trec import write_lines

PARTS = ".parts"


def part_path(output: str, name: str, index: int) -> str:
    """Where one part of the file ``name`` lies until the parts are joined."""
    return join(output, PARTS, f"{name}-{index:05d}")


@dataclass
class WriteParts(beam.PTransform):
    """Several collections of (file, (key, value)) -> the path of each of ``parts`` parts of every file.

    Keys are spread over the parts by hash. ``lines`` turns, by file, the sorted (key, value) pairs of a part into its
    lines, so that bytes depend on content alone.
    """

    output: str
    parts: int
    lines: Mapping[str, Callable[[Iterable[tuple[str, Any]]], Iterable[str]]]

    def expand(self, collections: tuple[beam.PCollection, ...]) -> beam.PCollection:
        every = [((name, index), None) for name in self.lines for index in range(self.parts)]
        empty = collections[0].pipeline | "All parts" >> beam.Create(every, reshuffle=False)
        keyed = [pairs | f"Key {n}" >> beam.Map(_keyed, self.parts) for n, pairs in enumerate(collections)]
        return (
            (*keyed, empty)
            | "Merge" >> beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.MapTuple(self._write)
        )

    def _write(self, part: tuple[str, int], pairs: Iterable[tuple[str, Any] | None]) -> str:
        name, index = part
        path = part_path(self.output, name, index)
        found = sorted((pair for pair in pairs if pair is not None), key=itemgetter(0))
        write_lines(path, self.lines[name](found))
        return path


def _keyed(item: tuple[str, tuple[str, Any]], parts: int) -> tuple[tuple[str, int], tuple[str, Any]]:
    name, pair = item
    return (name, shard_index(pair[0], parts)), pair


def join_parts(output: str, name: str, parts: int) -> None:
    """Join the parts into the file ``name`` of the output folder, then remove them; a second time, do the rest."""
    paths = [part_path(output, name, index) for index in range(parts)]
    if not exists(join(output, name)):
        with replacing(join(output, name)) as whole:
            for path in paths:
                with open_seekable(path) as part:
                    shutil.copyfileobj(part, whole, 1 << 20)
    delete([path for path in paths if exists(path)])
