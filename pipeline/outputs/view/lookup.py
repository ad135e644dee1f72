"""Rows of an output by id, each read when it is asked for: the shard by its hash, the row group by its statistics."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
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
        return list(self._read(table, {key}, columns))

    def row(self, table: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        """The only row of a key, or None where there is none."""
        return next(iter(self.rows(table, key, columns)), None)

    def by_key(self, table: str, keys: Iterable[str], columns: Sequence[str]) -> dict[str, Row]:
        """The only rows of these keys, without those that are not there."""
        column = TABLES[table].key[0]
        return {row[column]: row for row in self._read(table, set(keys), columns)}

    def _read(self, table: str, keys: set[str], columns: Sequence[str] | None) -> Iterator[Row]:
        """All rows of these keys; a shard is opened once, and a row group read once, whatever it has of them."""
        column = TABLES[table].key[0]
        read = None if columns is None else [column, *columns]
        for part in TABLES[table].parts:
            shards = self.tables.shards(table, part)
            wanted: dict[int, list[str]] = {}
            for key in sorted(keys) if shards else ():
                wanted.setdefault(shard_index(key, len(shards)), []).append(key)
            for index, here in wanted.items():
                with self.tables.opened(shards[index].path) as file:
                    for group in sorted({group for key in here for group in _groups_with(file, key)}):
                        rows = read_group(file, group, read)
                        yield from rows.filter(pc.is_in(rows[column], pa.array(here, pa.string()))).to_pylist()


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
