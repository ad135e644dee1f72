"""Rows of an output by id, each read when it is asked for: the shard by its hash, the row group by its statistics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.outputs.tables import Row, Tables, read_group
from schemas.tables import TABLES
from transforms.emit.shards import shard_index


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows by the first of their key columns; nothing is held between two questions, so that threads may share it."""

    tables: Tables

    def rows(self, table: str, key: str, columns: Sequence[str] | None = None) -> list[Row]:
        """All rows of a table whose first key column is ``key``, in their order."""
        column = TABLES[table].key[0]
        read = None if columns is None else [column, *columns]
        found: list[Row] = []
        for part in TABLES[table].parts:
            shards = self.tables.shards(table, part)
            if not shards:
                continue
            with self.tables.opened(shards[shard_index(key, len(shards))].path) as file:
                for group in _groups_with(file, key):
                    rows = read_group(file, group, read)
                    found += rows.filter(pc.equal(rows[column], pa.scalar(key))).to_pylist()
        return found

    def row(self, table: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        """The only row of a key, or None where there is none."""
        return next(iter(self.rows(table, key, columns)), None)


def _groups_with(file: pq.ParquetFile, key: str) -> Iterator[int]:
    """The row groups whose first column may hold ``key``: rows of a shard are in the order of their keys."""
    groups = range(file.num_row_groups)
    for group in groups[bisect_left(groups, key, key=lambda group: _bounds(file, group, key)[1]) :]:
        if _bounds(file, group, key)[0] > key:
            return
        yield group


def _bounds(file: pq.ParquetFile, group: int, key: str) -> tuple[str, str]:
    """The least and the greatest value of the first column; ``key`` for both where that is not known."""
    statistics: Any = file.metadata.row_group(group).column(0).statistics
    known = statistics is not None and statistics.has_min_max
    return (statistics.min, statistics.max) if known else (key, key)
