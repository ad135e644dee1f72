"""Named arrays in one file, appended to while it is written and memory-mapped when it is read.

The file is a line that names the format, the arrays one after the other, each at a multiple of 64 bytes, and a footer:
JSON with every array's type, shape and place, then the footer's length, the SHA-256 of all that comes before, and that
line again. The same arrays give the same bytes; a file that was cut short has no end, and one that was changed another
hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

_MAGIC = b"hardquery arrays\n"
_ALIGNED = 64  # bytes, a cache line
_DIGEST = hashlib.sha256().digest_size
_LENGTH = 8  # bytes of the footer's length
_END = _DIGEST + len(_MAGIC)
_READ = 1 << 20  # bytes at a time


class NotArrays(ValueError):
    """A file that is of another kind, or not whole."""


class ArrayWriter:
    """Writes arrays to a stream, one after the other; ``finish`` writes the footer."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._at = 0
        self._arrays: dict[str, dict[str, Any]] = {}
        self._write(_MAGIC)

    def begin(self, name: str, dtype: DTypeLike, *row: int) -> None:
        """Begin an array whose rows have this shape; what is appended from now on is its rows."""
        self._write(b"\0" * (-self._at % _ALIGNED))
        kind = np.dtype(dtype).newbyteorder("<").str
        self._arrays[name] = {"dtype": kind, "shape": [0, *row], "at": self._at}

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows to the array that was begun last.

        Raises:
            ValueError: they are of another shape.
        """
        array = next(reversed(self._arrays.values()))
        if list(rows.shape[1:]) != array["shape"][1:]:
            raise ValueError(f"rows of shape {list(rows.shape[1:])} where others have {array['shape'][1:]}")
        self._write(np.ascontiguousarray(rows, array["dtype"]).reshape(-1).view(np.uint8).data)
        array["shape"][0] += len(rows)

    def add(self, name: str, array: NDArray[Any]) -> None:
        """A whole array."""
        self.begin(name, array.dtype, *array.shape[1:])
        self.append(array)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Write the footer, with these plain values in it."""
        footer = json.dumps({"facts": facts, "arrays": self._arrays}, sort_keys=True).encode()
        self._write(footer + len(footer).to_bytes(_LENGTH, "little"))
        self._stream.write(self._digest.digest() + _MAGIC)

    def _write(self, data: bytes | memoryview) -> None:
        self._stream.write(data)
        self._digest.update(data)
        self._at += len(data)


def require_whole(stream: BinaryIO) -> None:
    """Read a file that can be sought to its end.

    Raises:
        NotArrays: it is no such file, or any of its bytes is not as it was written.
    """
    end = max(stream.seek(0, os.SEEK_END) - _END, 0)
    stream.seek(0)
    digest = hashlib.sha256()
    for start in range(0, end, _READ):
        digest.update(stream.read(min(_READ, end - start)))
    if stream.read() != digest.digest() + _MAGIC:
        raise NotArrays("its bytes are not those that were written")


def open_arrays(path: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The facts and the arrays of a file, which are read from the disk only where they are looked at.

    Raises:
        NotArrays: it is no such file, or not whole.
        FileNotFoundError: there is none.
    """
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise NotArrays("it is of another kind")
        end = size - _END - _LENGTH
        stream.seek(max(end, 0))
        length = int.from_bytes(stream.read(_LENGTH), "little")
        if stream.read()[_DIGEST:] != _MAGIC or not 0 < length <= end:
            raise NotArrays("its end is missing")
        stream.seek(end - length)
        try:
            footer = json.loads(stream.read(length))
            arrays = {name: _mapped(path, end - length, **place) for name, place in footer["arrays"].items()}
            return dict(footer["facts"]), arrays
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NotArrays(f"its footer makes no sense ({error})") from error


def _mapped(path: str, end: int, dtype: str, shape: list[int], at: int) -> NDArray[Any]:
    kind = np.dtype(dtype)
    if min(shape) < 0 or at + kind.itemsize * int(np.prod(shape)) > end:
        raise ValueError("an array lies outside the file")
    if 0 in shape:
        return np.empty(shape, kind)
    return np.asarray(np.memmap(path, kind, "r", at, tuple(shape)))  # the plain array keeps the mapping alive
