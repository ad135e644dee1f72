"""Parquet shards with the same bytes whatever the runner, the number of workers and the order of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.fingerprint import unit_interval
from schemas.tables import TABLES
from transforms.storage.files import replacing

Row = dict[str, Any]

# Frames are JPEG already: compressing them again costs time and saves 2 %. Small row groups keep random access cheap.
_WRITER_OPTIONS = {
    "version": "2.6",
    "data_page_version": "1.0",
    "write_page_index": True,
    "use_content_defined_chunking": True,  # a changed row changes few chunks, which stores that deduplicate notice
}
_ROWS_A_GROUP = {"videos": 8}
_DEFAULT_ROWS_A_GROUP = 1024
_BY_VIDEO = ("videos", "perception")


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A finished file of the output folder: path within it, rows (None where it is no table), size and SHA-256."""

    path: str
    sha256: str
    size_bytes: int
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class ShardCounts:
    """How many shards a table has: one with a row a video, and one whose rows come of queries, candidates and pairs."""

    by_video: int
    by_pair: int

    def of(self, table: str) -> int:
        """Those of a table, of each of its splits."""
        return self.by_video if table in _BY_VIDEO else self.by_pair


def shard_index(key: str, count: int) -> int:
    """The shard of a row, by a hash of its key: rows spread evenly and never move when others come or go."""
    return int(unit_interval(f"shard:{key}") * count)


class HashingStream:
    """A write-only stream that counts and hashes what passes through; pyarrow writes into it."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Hash and pass on."""
        block = bytes(data)
        self._sha256.update(block)
        self.size_bytes += len(block)
        self._stream.write(block)
        return len(block)

    def tell(self) -> int:
        return self.size_bytes

    def flush(self) -> None: ...

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        """Leave the underlying stream to its owner."""

    @property
    def sha256(self) -> str:
        """Of everything written so far."""
        return self._sha256.hexdigest()


def write_shard(path: str, table_name: str, rows: Iterable[Row]) -> tuple[str, int, int]:
    """Write ``rows`` in the given order as one Parquet file that appears at ``path`` when complete.

    Returns:
        SHA-256, bytes, number of rows. Memory is bounded by one row group.

    Raises:
        pyarrow.ArrowInvalid: a row does not fit the table's schema.
    """
    table = TABLES[table_name]
    schema = table.arrow_schema
    compression = {leaf: "NONE" if leaf.startswith("frames.") else "zstd" for leaf in _leaves(schema)}
    count = 0
    with replacing(path) as stream:
        sink = HashingStream(stream)
        file = pa.PythonFile(sink, mode="w")
        with pq.ParquetWriter(file, schema, compression=compression, **_WRITER_OPTIONS) as writer:
            for group in _batches(rows, _ROWS_A_GROUP.get(table_name, _DEFAULT_ROWS_A_GROUP)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema), row_group_size=len(group))
                count += len(group)
    return sink.sha256, sink.size_bytes, count


def _leaves(schema: pa.Schema) -> list[str]:
    """Dotted paths of the Parquet leaf columns, as pyarrow's per-column options name them."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    parquet = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [parquet.column(i).path for i in range(len(parquet))]


def _batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def in_order(rows: list[Row], key: tuple[str, ...]) -> list[Row]:
    """Rows by their key columns; rows that share a key are ordered by all they hold, so that there is one order."""

    def columns(row: Row) -> tuple[str, ...]:
        return tuple(str(row[column] or "") for column in key)

    rows.sort(key=columns)
    ordered: list[Row] = []
    for _, group in groupby(rows, key=columns):
        same = list(group)
        ordered += same if len(same) == 1 else sorted(same, key=lambda row: repr(sorted(row.items())))
    return ordered
