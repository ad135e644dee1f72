"""Text files too large for one worker: written in parts in parallel, joined in order at the end."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from transforms.emit.shards import shard_index
from transforms.storage.files import exists, join, open_seekable, replacing
from transforms.storage.trec import write_lines

PARTS = ".parts"


def part_path(output: str, name: str, index: int) -> str:
    """Where one part of the file ``name`` lies until the parts are joined."""
    return join(output, PARTS, f"{name}-{index:05d}")


@dataclass
class WriteParts(beam.PTransform):
    """(key, value) -> the path of each of ``parts`` parts of the file ``name``; keys are spread over them by hash.

    ``lines`` turns the sorted (key, value) pairs of a part into its lines, so that bytes depend on content alone.
    """

    output: str
    name: str
    parts: int
    lines: Callable[[Iterable[tuple[str, Any]]], Iterable[str]]

    def expand(self, pairs: beam.PCollection) -> beam.PCollection:
        empty = pairs.pipeline | "All parts" >> beam.Create([(i, None) for i in range(self.parts)], reshuffle=False)
        return (
            (pairs | "Key" >> beam.Map(lambda pair: (shard_index(pair[0], self.parts), pair)), empty)
            | "Merge" >> beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.MapTuple(self._write)
        )

    def _write(self, index: int, pairs: Iterable[tuple[str, Any] | None]) -> str:
        path = part_path(self.output, self.name, index)
        write_lines(path, self.lines(sorted((pair for pair in pairs if pair is not None), key=lambda pair: pair[0])))
        return path


def join_parts(output: str, name: str, parts: int) -> None:
    """Join the parts into the file ``name`` of the output folder, then remove them; a second time, do the rest."""
    paths = [part_path(output, name, index) for index in range(parts)]
    if not exists(join(output, name)):
        with replacing(join(output, name)) as whole:
            for path in paths:
                with open_seekable(path) as part:
                    shutil.copyfileobj(part, whole, 1 << 20)
    FileSystems.delete([path for path in paths if exists(path)])
