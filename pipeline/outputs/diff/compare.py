"""Comparing one table of two outputs: which rows differ and in which columns, a slice of the table at a time."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import gcd
from typing import Literal

import pyarrow as pa

from pipeline.outputs.tables import Row, Tables, read_group
from schemas.tables import Table
from transforms.emit.shards import WrittenFile

Kind = Literal["changed", "only in A", "only in B"]
Place = tuple[int | None, int | None]  # a row's position in the slice of A and of B

BOOKS = ("rejections", "failures")  # tables of what did not make it: text alone, and keys that are not unique

_FRAMES, _SPLIT = "frames", "split"


@dataclass(frozen=True, slots=True)
class Change:
    """A row that differs: its key, the columns that do, and the columns that say why, in A and in B.

    ``columns`` is empty and ``before`` or ``after`` None where the row is in one output only.
    """

    table: str
    kind: Kind
    key: tuple[str, ...]
    columns: tuple[str, ...]
    before: Row | None
    after: Row | None
    place: Place

    @property
    def row(self) -> Row:
        """The deciding columns where there is a row: in B, else in A."""
        return self.after or self.before or {}


@dataclass(frozen=True, slots=True)
class Side:
    """The shards of one output that hold one slice of a table."""

    tables: Tables
    table: Table
    shards: Sequence[WrittenFile]

    def read(self, columns: Sequence[str]) -> pa.Table:
        """These columns of every row; tables that are cut by split have a column ``split`` as well."""
        stored = [column for column in columns if column != _SPLIT or not self.table.split]
        stored = stored or list(self.table.key)  # rows without any column would not be counted
        read = [self._with_split(self.table.schema.empty_table().select(stored), "", columns)]
        for shard in self.shards:
            with self.tables.opened(shard.path) as file:
                rows = file.read(columns=stored, use_threads=False).replace_schema_metadata(None)
            part = shard.path.partition("/")[2].partition("-")[0]
            read.append(self._with_split(rows, part, columns))
        return pa.concat_tables(read).combine_chunks()

    def rows(self, columns: Sequence[str], places: Sequence[int | None]) -> Iterator[Row | None]:
        """These columns of the rows at ``places``; None for None."""
        found = iter(self.read(columns).take(_positions(places)).to_pylist())
        return (None if place is None else next(found) for place in places)

    def _with_split(self, rows: pa.Table, part: str, columns: Sequence[str]) -> pa.Table:
        if not self.table.split or _SPLIT not in columns:
            return rows
        return rows.append_column(_SPLIT, pa.array([part] * rows.num_rows, pa.string()))


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice of a table, compared: how many rows are the same, and the others."""

    a: Side
    b: Side
    same: int
    changes: tuple[Change, ...] = ()

    def values(self, changes: Sequence[Change], shown: Sequence[str]) -> Iterator[tuple[Row | None, Row | None]]:
        """For each change its row in A and in B, in the columns that differ, or ``shown`` where it is in one only."""
        if not changes:
            return
        wanted = {column for change in changes for column in change.columns or shown} - {_FRAMES}
        columns = [*dict.fromkeys((*self.a.table.key, *sorted(wanted)))]
        rows_a = self.a.rows(columns, [change.place[0] for change in changes])
        rows_b = self.b.rows(columns, [change.place[1] for change in changes])
        for change, before, after in zip(changes, rows_a, rows_b, strict=True):
            names = [name for name in change.columns or shown if name in wanted]
            yield _only(names, before), _only(names, after)


def compare(table: Table, a: Tables, b: Tables, deciding: Sequence[str]) -> Iterator[Slice]:
    """All slices of ``table``; a slice whose shards have the same bytes is not read.

    A row's shard follows from its key (see ``shard_index``), so that where the numbers of shards have a common divisor
    the rows of a slice of A can only be in the same slice of B. ``deciding`` are the columns that every Change carries.
    """
    counts = [len(tables.shards(table.name, table.parts[0])) for tables in (a, b)]
    for index in range(slices := gcd(*counts)):
        yield _compare(_side(table, a, index, slices), _side(table, b, index, slices), deciding)


def _side(table: Table, tables: Tables, index: int, slices: int) -> Side:
    shards: list[WrittenFile] = []
    for part in table.parts:
        found = tables.shards(table.name, part)
        each = len(found) // slices
        shards += found[index * each : (index + 1) * each]
    return Side(tables, table, shards)


def _compare(a: Side, b: Side, deciding: Sequence[str]) -> Slice:
    if [shard.sha256 for shard in a.shards] == [shard.sha256 for shard in b.shards]:
        return Slice(a, b, sum(shard.rows or 0 for shard in a.shards))
    table = a.table
    pairs, only_a, only_b = _join(a, b)
    names = [name for name in table.schema.names if name != _FRAMES] + [_SPLIT] * table.split
    columns: dict[int, list[str]] = defaultdict(list)
    left, right = (_positions(side) for side in zip(*pairs, strict=True)) if pairs else (_positions(()),) * 2
    for name in names:
        for pair in _differing(a.read([name]).take(left)[name], b.read([name]).take(right)[name]):
            columns[pair].append(name)
    if _FRAMES in table.schema.names:
        ids = a.read(table.key)[table.key[0]].take(left).to_pylist()
        changed = _changed_frames(a, b)
        for pair, video_id in enumerate(ids):
            if video_id in changed:
                columns[pair].append(_FRAMES)
    found: list[tuple[Kind, Place, tuple[str, ...]]] = [
        *(("changed", pairs[pair], tuple(columns[pair])) for pair in sorted(columns)),
        *(("only in A", (i, None), ()) for i in only_a),
        *(("only in B", (None, j), ()) for j in only_b),
    ]
    return Slice(a, b, len(pairs) - len(columns), tuple(_changes(a, b, found, deciding)))


def _changes(
    a: Side, b: Side, found: Sequence[tuple[Kind, Place, tuple[str, ...]]], deciding: Sequence[str]
) -> Iterator[Change]:
    if not found:
        return
    wanted = list(dict.fromkeys((*a.table.key, *deciding)))
    rows_a = a.rows(wanted, [place[0] for _, place, _ in found])
    rows_b = b.rows(wanted, [place[1] for _, place, _ in found])
    for (kind, place, columns), before, after in zip(found, rows_a, rows_b, strict=True):
        row = after or before or {}
        key = tuple(str(row[column] or "") for column in a.table.key)
        yield Change(a.table.name, kind, key, columns, before, after, place)


def _join(a: Side, b: Side) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Positions of the rows that belong together, and of those in A and in B only.

    The books may hold several rows of one key, such as the rejections of one video's variants: equal ones come first.
    """
    key, every = list(a.table.key), a.table.schema.names
    pairs: list[tuple[int, int]] = []
    left, right = (list(range(side.read(key).num_rows)) for side in (a, b))
    for columns in (every, key) if a.table.name in BOOKS else (key,):
        keys_a, keys_b = (_tuples(side.read(columns)) for side in (a, b))
        waiting: dict[tuple[str, ...], deque[int]] = defaultdict(deque)
        for i in left:
            waiting[keys_a[i]].append(i)
        unmatched = []
        for j in right:
            if same := waiting.get(keys_b[j]):
                pairs.append((same.popleft(), j))
            else:
                unmatched.append(j)
        left, right = sorted(i for rest in waiting.values() for i in rest), unmatched
    return sorted(pairs), left, right


def _tuples(rows: pa.Table) -> list[tuple[str, ...]]:
    return list(zip(*(column.to_pylist() for column in rows.columns), strict=True))


def _differing(a: pa.ChunkedArray, b: pa.ChunkedArray) -> list[int]:
    """Positions at which two columns, of any type, differ: equal halves are passed over, others halved again."""
    found, spans = [], [(0, len(a))]
    while spans:
        start, count = spans.pop()
        if a.slice(start, count).equals(b.slice(start, count)):
            continue
        if count == 1:
            found.append(start)
            continue
        half = count // 2
        spans += [(start + half, count - half), (start, half)]
    return found


Group = tuple[str, int]  # path of a shard, row group in it


def _changed_frames(a: Side, b: Side) -> set[str]:
    """Ids of the videos whose frames differ.

    Row groups of the same videos whose frames take the same number of bytes are taken as equal without reading them;
    of all others the frames are compared by hash, a row group in memory at a time.
    """
    groups_a, groups_b = _frame_groups(a), _frame_groups(b)
    hashes_a, hashes_b = (
        _frame_hashes(side, (group for what, group in mine.items() if what not in others))
        for side, mine, others in ((a, groups_a, groups_b), (b, groups_b, groups_a))
    )
    return {video_id for video_id in hashes_a.keys() & hashes_b.keys() if hashes_a[video_id] != hashes_b[video_id]}


def _frame_groups(side: Side) -> dict[tuple[tuple[str, ...], int], Group]:
    """Row groups by the ids in them and the bytes of their frames."""
    found = {}
    for shard in side.shards:
        with side.tables.opened(shard.path) as file:
            for group in range(file.num_row_groups):
                described = file.metadata.row_group(group)
                size = sum(
                    described.column(i).total_uncompressed_size
                    for i in range(described.num_columns)
                    if described.column(i).path_in_schema.startswith(f"{_FRAMES}.")
                )
                ids = tuple(read_group(file, group, ["video_id"])["video_id"].to_pylist())
                found[ids, size] = (shard.path, group)
    return found


def _frame_hashes(side: Side, groups: Iterable[Group]) -> dict[str, bytes]:
    hashes = {}
    for path, group in groups:
        with side.tables.opened(path) as file:
            for row in read_group(file, group, ["video_id", _FRAMES]).to_pylist():
                digest = hashlib.blake2b(digest_size=16)
                for frame in row[_FRAMES] or ():
                    digest.update(hashlib.blake2b(frame["bytes"], digest_size=16).digest())
                hashes[row["video_id"]] = digest.digest()
    return hashes


def _positions(places: Iterable[int | None]) -> pa.Array:
    return pa.array([place for place in places if place is not None], pa.int64())


def _only(names: Sequence[str], row: Row | None) -> Row | None:
    return None if row is None else {name: row[name] for name in names}
