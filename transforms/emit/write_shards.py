"""Tables as shards: rows are brought together by shard, put in order, and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import apache_beam as beam

from schemas.tables import TABLES
from transforms.emit.shards import Row, ShardCounts, WrittenFile, in_order, shard_index, write_shard
from transforms.storage.files import join


@dataclass
class WriteShards(beam.PTransform):
    """{table: rows} -> WrittenFile: every table as so many Parquet files a split as ``shards`` says, empty ones too.

    Of a table with splits, each row is a pair (split, row).

    All tables share one shuffle: with one each, a small run would spend more on the graph than on its rows.
    ``complete`` turns a table's row into its final form while the shard is written; the videos table adds frames there,
    so that no pixel passes through a PCollection.
    """

    output: str
    shards: ShardCounts
    complete: Mapping[str, Callable[[Row], Row]] = field(default_factory=dict)

    def expand(self, tables: dict[str, beam.PCollection]) -> beam.PCollection:
        pipeline = next(iter(tables.values())).pipeline
        parts = [(name, part) for name in tables for part in TABLES[name].parts]
        every = [((*part, index), None) for part in parts for index in range(self.shards.of(part[0]))]
        # Injected so that a shard without rows is a file too: readers rely on the names.
        empty = pipeline | "All shards" >> beam.Create(every, reshuffle=False)
        keyed = [rows | f"Key {name}" >> beam.Map(_keyed, name, self.shards.of(name)) for name, rows in tables.items()]
        return (
            (*keyed, empty)
            | "Merge" >> beam.Flatten()
            | "Group" >> beam.GroupByKey()
            | "Write" >> beam.MapTuple(self._write)
        )

    def _write(self, shard: tuple[str, str, int], rows: Iterable[Row | None]) -> WrittenFile:
        name, part, index = shard
        table = TABLES[name]
        present: Iterable[Row] = in_order([row for row in rows if row is not None], table.key)
        if name in self.complete:
            present = map(self.complete[name], present)
        path = table.shard_path(part, index, self.shards.of(name))
        return WrittenFile(path, *write_shard(join(self.output, path), name, present))


def _keyed(row: Row | tuple[str, Row], table: str, shards: int) -> tuple[tuple[str, str, int], Row]:
    part, content = row if isinstance(row, tuple) else ("part", row)
    return (table, part, shard_index(str(content[TABLES[table].key[0]]), shards)), content
