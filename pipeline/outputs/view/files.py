"""Source files of the videos of an output: which of them lie on this machine as they were read, and parts of them."""

from __future__ import annotations

import mimetypes
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.outputs.tables import Row
from transforms.storage.address import local_path

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_BLOCK = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """A file on this machine; ``size`` in bytes, ``kind`` is its MIME type."""

    path: str
    size: int
    kind: str

    def read(self, first: int, last: int) -> Iterator[bytes]:
        """Its bytes from ``first`` to ``last``, both included, in blocks."""
        with open(self.path, "rb") as file:
            file.seek(first)
            left = last - first + 1
            while left > 0 and (block := file.read(min(_BLOCK, left))):
                yield block
                left -= len(block)


def source_of(video: Row) -> Source | None:
    """The file of a row of the videos table, or None where it is not on this machine or not as it was read.

    A file is known by the size that the row has; its bytes are not hashed.
    """
    path = local_path(video["uri"])
    if "://" in path or not os.path.isfile(path):
        return None
    size = os.path.getsize(path)
    if size != (video["media"] or {}).get("size_bytes"):
        return None
    return Source(path, size, mimetypes.guess_type(path)[0] or "application/octet-stream")


def span(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte that a Range header (RFC 9110) asks for; None where the file has none of them.

    Of several ranges only one form is answered: a header that is not one range asks for the whole.
    """
    found = _RANGE.fullmatch(header.strip())
    if not found or found.group() == "bytes=-":
        return (0, size - 1) if size else None
    first, last = found.groups()
    if not first:  # the last so many bytes
        return (max(0, size - int(last)), size - 1) if int(last) and size else None
    begin, end = int(first), min(int(last or size - 1), size - 1)
    return (begin, end) if begin <= end else None
