"""Examples in columns: half a million of them take a hundred megabytes, and each is made when it is taken."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TypeVar, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.check import read_plain
from schemas.tables import row_of

Example = TypeVar("Example")

_IDS = [("query_id", pa.string()), ("video_id", pa.string()), ("label", pa.int8())]
_AT_ONCE = 2048  # rows that are made into examples at a time, when all are
_NONE = pa.schema([("query_id", pa.string()), ("candidates", pa.list_(pa.struct(_IDS)))]).empty_table()


class Examples(Sequence[Example]):
    """The rows of a table, each an example of ``kind`` when it is taken; a slice of them is held like the whole."""

    def __init__(self, kind: type[Example], table: pa.Table) -> None:
        self._kind = kind
        self._table = table

    @classmethod
    def of(cls, kind: type[Example], records: Iterable[Example]) -> Examples[Example]:
        """Examples that were made already."""
        rows = [row_of(record) for record in records]
        return cls(kind, pa.Table.from_pylist(rows) if rows else _NONE)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Example]:
        for batch in self._table.to_batches(max_chunksize=_AT_ONCE):
            for row in batch.to_pylist():
                yield read_plain(row, self._kind)

    @overload
    def __getitem__(self, at: int) -> Example: ...
    @overload
    def __getitem__(self, at: slice) -> Examples[Example]: ...
    def __getitem__(self, at: int | slice) -> Example | Examples[Example]:
        if isinstance(at, slice):
            return Examples(self._kind, self._table.take(np.arange(*at.indices(len(self)), dtype=np.int64)))
        (row,) = self._table.slice(range(len(self))[at], 1).to_pylist()
        return read_plain(row, self._kind)

    @property
    def keys(self) -> pa.ChunkedArray:
        """What names each example: the id of its query or, of captions, of its video."""
        return self._table[self.key_name]

    @property
    def key_name(self) -> str:
        """The column of keys."""
        return "query_id" if "query_id" in self._table.column_names else "video_id"

    @property
    def video_ids(self) -> pa.ChunkedArray:
        """The videos that the examples name, of each as many as it has."""
        return self._table["video_id"] if self._names_one_video else pa.chunked_array([self.candidates("video_id")[1]])

    def candidates(self, name: str) -> tuple[npt.NDArray[np.int64], pa.Array]:
        """A column of the candidates of all examples; those of example i lie from bound i to bound i + 1."""
        lists = self._table["candidates"]
        bounds: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(pc.list_value_length(lists), dtype=np.int64)])
        kind = lists.type.value_type.field(name).type  # which no chunk tells where there is none
        return bounds, pa.chunked_array([chunk.flatten().field(name) for chunk in lists.chunks], kind).combine_chunks()

    def place(self, key: str) -> int | None:
        """Where the example of a key is; None where there is none."""
        keys, order = self.keys, self.by_key
        found = bisect_left(order, True, key=lambda row: keys[int(row)].as_py() > key) - 1
        return int(order[found]) if found >= 0 and keys[int(order[found])].as_py() == key else None

    def named(self, key: str) -> Example:
        """The example of a key.

        Raises:
            KeyError: there is none.
        """
        if (place := self.place(key)) is None:
            raise KeyError(key)
        return self[place]

    def without(self, video_ids: pa.Array) -> Examples[Example]:
        """The examples that name none of the videos."""
        if not len(self) or not len(video_ids):
            return self
        named = np.asarray(pc.is_in(self.video_ids, video_ids))
        if not self._names_one_video:
            bounds, _ = self.candidates("video_id")
            named = np.logical_or.reduceat(named, bounds[:-1])
        return Examples(self._kind, self._table.filter(pa.array(~named)))

    def repeated(self) -> str | None:
        """A key that several examples have, the first in the order of keys; None where each has its own."""
        keys = self.keys.take(self.by_key)
        again = pc.equal(keys[1:], keys[:-1])
        return str(keys[pc.index(again, True).as_py()].as_py()) if pc.any(again).as_py() else None

    @cached_property
    def by_key(self) -> npt.NDArray[np.int64]:
        """The examples' places, in the order of their keys."""
        order: npt.NDArray[np.int64] = pc.sort_indices(self.keys).to_numpy().astype(np.int64)
        return order

    @property
    def _names_one_video(self) -> bool:
        return "video_id" in self._table.column_names
