"""The small columns of one list, held in memory: what it is filtered and sorted by, and where its rows lie."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.tables import Row, Tables, read_group

Numbers = np.ndarray[Any, np.dtype[Any]]
_AND = "\n"  # between the values of a row that has several
Measures = Callable[[pa.Table], Mapping[str, Numbers]]


@dataclass(frozen=True, slots=True)
class Listed:
    """What a list is made of: rows of a table, some of them only.

    ``facets`` are columns (dotted where nested) of few values, or of lists of them, by the name of the filter;
    ``measures`` are columns and a function from them to numbers a row, by which the list is sorted, greatest first.
    ``texts`` are the columns that a search looks into, ``videos`` is the column of the row's video, or of all its
    videos, its own first. ``shown`` are the columns of a row of the page. ``without`` is a
    column, and the value of it whose rows the list leaves out.
    """

    table: str
    facets: Mapping[str, str]
    texts: tuple[str, ...]
    videos: str
    shown: tuple[str, ...]
    measured: tuple[str, ...] = ()
    measures: Measures | None = None
    without: tuple[str, str] = ("", "")


@dataclass(slots=True)
class Index:
    """For every row of a list: facets as codes, measures as numbers; rows are counted through all shards in order.

    Facets are read when they are first needed, which is after a list has been seen.
    """

    tables: Tables
    listed: Listed
    places: list[tuple[str, int]] = field(default_factory=list)  # row groups: shard, number
    starts: list[int] = field(default_factory=list)  # the first row of each
    rows: int = 0
    values: dict[str, dict[str, int]] = field(default_factory=dict)  # facet: value: code
    codes: dict[str, Numbers] = field(default_factory=dict)
    measures: dict[str, Numbers] = field(default_factory=dict)
    kept: Numbers = field(default_factory=lambda: np.zeros(0, bool))
    own_videos: pa.ChunkedArray = field(default_factory=lambda: pa.chunked_array([], pa.string()))  # read with facets

    @classmethod
    def of(cls, tables: Tables, listed: Listed) -> Index:
        """Read what rows are sorted by."""
        index = cls(tables, listed)
        without, value = listed.without
        columns = {*listed.measured, *([without] if without else [])} or {*listed.facets.values()}
        measures: dict[str, list[Numbers]] = {}
        kept: list[Numbers] = []
        for place, rows in scan(tables, listed.table, sorted(columns)):
            index.places.append(place)
            index.starts.append(index.rows)
            index.rows += len(rows)
            for name, numbers in (listed.measures(rows) if listed.measures else {}).items():
                measures.setdefault(name, []).append(numbers.astype(np.float32))
            kept.append(_true(pc.not_equal(rows[without], value)) if without else np.ones(len(rows), bool))
        index.measures = {name: _joined(parts, np.float32) for name, parts in measures.items()}
        index.kept = _joined(kept, bool)
        return index

    def read_facets(self) -> None:
        """Read what rows are filtered by, once."""
        if self.codes.keys() >= self.listed.facets.keys():
            return
        values: dict[str, dict[str, int]] = {name: {} for name in self.listed.facets}
        codes: dict[str, list[Numbers]] = {name: [] for name in values}
        own: list[pa.Array] = []
        for _, rows in scan(self.tables, self.listed.table, sorted({*self.listed.facets.values(), self.listed.videos})):
            own.append(_own_videos(rows[self.listed.videos]))
            for name, column in self.listed.facets.items():
                codes[name].append(_coded(rows[column], values[name]))
        self.own_videos = pa.chunked_array(own, pa.string())
        self.values |= values
        self.codes |= {name: _joined(parts, np.int16) for name, parts in codes.items()}

    def add_facets(self, videos: pa.Table, names: Sequence[str]) -> None:
        """Add facets of the rows' own videos: columns ``names`` of a table whose ``video_id`` tells which is which.

        All rows are looked up at once: Arrow hashes all ids of videos for each call.
        """
        self.read_facets()
        places = pc.index_in(self.own_videos, videos["video_id"])
        for name in names:
            self.values[name] = {}
            self.codes[name] = _coded(videos[name].take(places), self.values[name])

    def values_of(self, number: int) -> dict[str, list[str]]:
        """The values of one row, by facet."""
        held = {name: {code: value for value, code in values.items()} for name, values in self.values.items()}
        return {name: _several(held[name][int(codes[number])]) for name, codes in self.codes.items()}

    def counts(self) -> dict[str, dict[str, int]]:
        """Rows of the list by facet and value, the most first."""
        counted = {}
        for name, values in self.values.items():
            numbers = np.bincount(self.codes[name][self.kept], minlength=len(values))
            found: Counter[str] = Counter()
            for value, code in values.items():
                found.update(dict.fromkeys(_several(value), int(numbers[code])))
            counted[name] = {value: n for value, n in sorted(found.items(), key=lambda item: (-item[1], item[0])) if n}
        return counted

    def chosen(self, filters: Mapping[str, str], sort: str = "", among: Numbers | None = None) -> Numbers:
        """The rows that have all values of ``filters`` and are ``among`` these, in the order of a measure.

        The order is that of the shards where ``sort`` names no measure; rows that have no number come last.
        """
        if filters:
            self.read_facets()
        mask = self.kept if among is None else self.kept & among
        for name, value in filters.items():
            codes = [code for held, code in self.values.get(name, {}).items() if value in _several(held)]
            mask = mask & np.isin(self.codes[name], codes) if codes else np.zeros(self.rows, bool)
        found: Numbers = np.flatnonzero(mask)
        if sort in self.measures:
            found = found[np.argsort(-self.measures[sort][found], kind="stable")]  # NaN is sorted last
        return found

    def searched(self, text: str, videos: pa.Array) -> Numbers:
        """Which rows hold ``text`` in a searched column, in any case of letters, or have one of these videos."""
        found = []
        columns = sorted({*self.listed.texts, self.listed.videos})
        for _, rows in scan(self.tables, self.listed.table, columns):
            mask = np.zeros(len(rows), bool)
            for column in self.listed.texts:
                mask |= _true(pc.match_substring(_plain(rows[column]), text, ignore_case=True))
            found.append(mask | _has_video(rows, self.listed.videos, videos))
        return _joined(found, bool)

    def read(self, numbers: Sequence[int]) -> list[Row]:
        """The shown columns of some rows, in the given order; only their row groups are read."""
        by_group: dict[int, list[int]] = {}
        for number in numbers:
            by_group.setdefault(bisect_right(self.starts, number) - 1, []).append(number)
        found: dict[int, Row] = {}
        for at, inside in sorted(by_group.items()):
            path, group = self.places[at]
            with self.tables.opened(path) as file:
                rows = read_group(file, group, self.listed.shown).take([n - self.starts[at] for n in inside])
            found.update(zip(inside, rows.to_pylist(), strict=True))
        return [found[number] for number in numbers]


def scan(tables: Tables, table: str, columns: Sequence[str]) -> Iterator[tuple[tuple[str, int], pa.Table]]:
    """Every row group of a table in some columns, with these under their dotted names; structs are taken apart."""
    for shard in tables.shards(table):
        with tables.opened(shard.path) as file:
            for group in range(file.num_row_groups):
                rows = read_group(file, group, columns)
                if rows.num_rows:
                    yield (shard.path, group), pa.table({name: _column(rows, name) for name in columns})


def scan_shards(tables: Tables, table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    """As ``scan``, but a shard at a time, for columns that are small: of many row groups that is far less work."""
    for shard in tables.shards(table):
        with tables.opened(shard.path) as file:
            rows = file.read(columns=list(columns), use_threads=False)
            if rows.num_rows:
                yield pa.table({name: _column(rows, name) for name in columns})


def _column(rows: pa.Table, name: str) -> pa.ChunkedArray | pa.Array:
    first, *inner = name.split(".")
    column = rows[first].combine_chunks()
    for field_name in inner:
        if field_name not in ("list", "element"):
            column = _lists_of(column, field_name) if pa.types.is_list(column.type) else column.field(field_name)
    return column


def _lists_of(column: pa.Array, field_name: str) -> pa.Array:
    """Lists of structs as lists of one field of these."""
    offsets = pc.subtract(column.offsets, column.offsets[0])
    return pa.ListArray.from_arrays(offsets, column.flatten().field(field_name))


def _coded(column: pa.Array | pa.ChunkedArray, values: dict[str, int]) -> Numbers:
    """Codes of a column of texts, with those of new values put into ``values``; null counts as ""."""
    encoded = _plain(column).dictionary_encode("encode")  # null too
    known = np.array(
        [values.setdefault(value or "", len(values)) for value in encoded.dictionary.to_pylist()], np.int16
    )
    codes: Numbers = known[encoded.indices.to_numpy()] if len(known) else np.zeros(len(encoded), np.int16)
    return codes


def _plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """A column of texts as one array; lists of texts are joined, where null counts as ""."""
    plain = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if not pa.types.is_list(plain.type):
        return plain
    texts = pc.fill_null(plain.flatten(), "")
    return pc.binary_join(pa.ListArray.from_arrays(pc.subtract(plain.offsets, plain.offsets[0]), texts), _AND)


def _several(value: str) -> list[str]:
    """The values of a facet that a row has: "" only where it has no other."""
    return [each for each in value.split(_AND) if each] or [""]


def _own_videos(column: pa.ChunkedArray) -> pa.Array:
    """The id of each row's own video: the first where a row has several, null where it has none."""
    videos = column.combine_chunks()
    return pc.list_element(videos, 0) if pa.types.is_list(videos.type) else videos


def _has_video(rows: pa.Table, column: str, videos: pa.Array) -> Numbers:
    held = rows[column].combine_chunks()
    if not pa.types.is_list(held.type):
        return _true(pc.is_in(held, videos))
    parents = pc.list_parent_indices(held).filter(pc.is_in(pc.list_flatten(held), videos))
    mask = np.zeros(len(held), bool)
    mask[parents.to_numpy()] = True
    return mask


def _true(column: pa.Array | pa.ChunkedArray) -> Numbers:
    """Booleans, null as false."""
    mask: Numbers = np.asarray(pc.fill_null(column, False))
    return mask


def _joined(parts: Sequence[Numbers], kind: Any) -> Numbers:
    return np.concatenate(parts) if parts else np.zeros(0, kind)
