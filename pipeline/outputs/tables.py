"""Reading a run's tables back: shard by shard, row group by row group, from any filesystem."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.outputs.errors import UnreadableOutput, reading
from schemas.check import read_plain
from schemas.configuration.section import did_you_mean
from schemas.tables import TABLES, Table
from schemas.video import Evidence
from transforms.emit.shards import WrittenFile
from transforms.storage.address import is_remote
from transforms.storage.files import join, open_seekable

Row = dict[str, Any]

_ROWS_A_BATCH = {"videos": 256}
_MOST_ROWS_A_BATCH = 2048

_PARTS = "|".join(f"{table.name}/(?:{'|'.join(table.parts)})" for table in TABLES.values())
_TABLE_FILE = re.compile(rf"(?:{_PARTS})-\d{{5,}}-of-\d{{5,}}\.parquet(?:\.[0-9a-f]{{32}}\.tmp)?")


def written(recipe: Mapping[str, Any]) -> list[Table]:
    """The tables that a run of this recipe (plain values) writes, in their order."""
    asked = {
        "ranking_by_video": (recipe.get("synthesize") or {}).get("negative_queries"),
        "necessity": (recipe.get("judge") or {}).get("necessity"),
    }
    return [table for table in TABLES.values() if not table.optional or asked[table.name] is not None]


def read_group(file: pq.ParquetFile, group: int, columns: Sequence[str] | None = None) -> pa.Table:
    """One row group, read in this thread.

    Arrow's own threads would call back into Python for every read; one that still does so when the interpreter ends is
    torn down with an abort, after all work is done.
    """
    return file.read_row_group(group, columns=columns, use_threads=False)


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables below ``output`` whose shards are among ``files``; other files there are not looked at.

    Whatever reads rows raises UnreadableOutput where a shard is missing, damaged or of other columns.
    """

    output: str
    files: tuple[WrittenFile, ...]

    def shards(self, table: str, part: str | None = None) -> list[WrittenFile]:
        """A table's shards by path, of one split or of all."""
        prefix = f"{table}/{part}-" if part else f"{table}/"
        return sorted((file for file in self.files if file.path.startswith(prefix)), key=lambda file: file.path)

    def count(self, table: str, part: str | None = None) -> int:
        """Rows of a table, as counted when its shards were written."""
        return sum(file.rows or 0 for file in self.shards(table, part))

    def rows(self, table: str, columns: Sequence[str] | None = None, part: str | None = None) -> Iterator[Row]:
        """Every row in shard order; ``columns`` may name struct fields as ``metadata.event``."""
        for shard in self.shards(table, part):
            yield from self.rows_of(shard, columns)

    def rows_of(self, shard: WrittenFile, columns: Sequence[str] | None = None) -> Iterator[Row]:
        """Every row of one shard, in memory a batch at a time."""
        for batch in self.batches_of(shard, columns):
            yield from batch.to_pylist()

    def batches_of(self, shard: WrittenFile, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of one shard, a batch at a time, all of whose texts are UTF-8."""
        with self.opened(shard.path) as file:
            size = _ROWS_A_BATCH.get(shard.path.partition("/")[0], _MOST_ROWS_A_BATCH)
            for batch in file.iter_batches(size, columns=columns, use_threads=False):
                batch.validate(full=True)
                yield batch

    def batches(self, table: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Every row in shard order, as ``batches_of``."""
        for shard in self.shards(table):
            yield from self.batches_of(shard, columns)

    def counts(self, table: str, columns: Sequence[str]) -> Counter[tuple[Any, ...]]:
        """How many rows have the same values in these columns."""
        found: Counter[tuple[Any, ...]] = Counter()
        for batch in self.batches(table, columns):
            groups = (
                pa.Table.from_batches([batch]).group_by(list(columns), use_threads=False).aggregate([([], "count_all")])
            )
            *keys, numbers = (groups.column(name).to_pylist() for name in (*columns, "count_all"))
            for *key, number in zip(*keys, numbers, strict=True):
                found[tuple(key)] += number
        return found

    def arrow(self, table: str, part: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
        """A whole table, or one split of it, in memory.

        Raises:
            ValueError: there is no such table.
        """
        if table not in TABLES:
            raise ValueError(f"table {table!r} is not known{did_you_mean(table, list(TABLES))}")
        schema = TABLES[table].arrow_schema
        found = [schema.empty_table().select(columns or schema.names)]
        for shard in self.shards(table, part):
            with self.opened(shard.path) as file:
                found.append(file.read(columns=columns, use_threads=False))
        return pa.concat_tables(found)

    def matching(self, table: str, column: str, value: str) -> list[Row]:
        """All rows whose ``column`` equals ``value``; row groups without such a row are read in that column only."""
        found = []
        for shard in self.shards(table):
            with self.opened(shard.path) as file:
                for group in range(file.num_row_groups):
                    if value in read_group(file, group, [column])[column].to_pylist():
                        found += [row for row in read_group(file, group).to_pylist() if row[column] == value]
        return found

    @contextmanager
    def opened(self, path: str) -> Iterator[pq.ParquetFile]:
        """One shard, open for reading."""
        whole = join(self.output, path)
        # A file of this machine is opened by Arrow itself, which takes half the time of reading through Python.
        source = whole if not is_remote(whole) else open_seekable(whole)
        with reading(self.output, path), pq.ParquetFile(source) as file:
            table = path.partition("/")[0]
            if not file.schema_arrow.equals(TABLES[table].arrow_schema):
                raise UnreadableOutput(self.output, path, f"its columns are not those of {table}")
            yield file


class VideoIndex:
    """Rows of the videos table by id: the ids are held in memory, the rows are read when asked for, in any order.

    Each row group is read at most once: its rows then lie in a temporary database (SQLite's, on disk where they are
    many). For use in one thread.
    """

    def __init__(self, tables: Tables, columns: Iterable[str]) -> None:
        self.tables = tables
        self._columns = ["video_id", *columns]
        self._where: dict[str, tuple[str, int]] = {}
        for shard in tables.shards("videos"):
            with tables.opened(shard.path) as file:
                for group in range(file.num_row_groups):
                    ids = read_group(file, group, ["video_id"])["video_id"].to_pylist()
                    self._where.update(dict.fromkeys(ids, (shard.path, group)))
        self._at_hand: set[tuple[str, int]] = set()
        self._rows = sqlite3.connect("")
        self._rows.execute("CREATE TABLE video (id TEXT PRIMARY KEY, row BLOB) WITHOUT ROWID")

    def get(self, video_id: str) -> Row | None:
        """The row of a video, or None where the table has none."""
        where = self._where.get(video_id)
        if where is None:
            return None
        if where not in self._at_hand:
            self._read_group(*where)
        (found,) = self._rows.execute("SELECT row FROM video WHERE id = ?", (video_id,)).fetchone()
        row: Row = msgspec.msgpack.decode(found)
        return row

    def _read_group(self, path: str, group: int) -> None:
        with self.tables.opened(path) as file:
            rows = read_group(file, group, self._columns).to_pylist()
        by_id = {row["video_id"]: row for row in rows if self._where[row["video_id"]] == (path, group)}
        encoded = ((video_id, msgspec.msgpack.encode(row)) for video_id, row in by_id.items())
        self._rows.executemany("INSERT INTO video VALUES (?, ?)", encoded)
        self._at_hand.add((path, group))


def evidence_of(video: Row) -> Evidence:
    """The evidence of a row of the videos table, as the record that prompts are rendered from."""
    return read_plain({name: video[name] for name in ("caption", "asr", "ocr", "metadata")}, Evidence)


def is_table_file(path: str) -> bool:
    """Whether a path within the output folder is one that a run gives to a shard, or to a shard it is writing."""
    return _TABLE_FILE.fullmatch(path) is not None
