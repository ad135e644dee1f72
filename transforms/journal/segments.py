"""Segment files of the journal: append-only lines with a checksum each, and an index of where each key's lines lie."""

from __future__ import annotations

import os
import threading
import time
import uuid
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transforms.storage.cache_failed import CacheFailed

SUFFIX = ".jsonl"
SYNC_PERIOD_S = 1.0
APART = 1 << 16  # records that an index may hold unsorted, however few it has in all
# crc32 (8 hex), key (32 hex) and subject (16 hex), each followed by a space; then JSON and a newline. The checksum
# covers everything after its own space, so that one flipped bit anywhere is seen.
_PREFIX = 8 + 1 + 32 + 1 + 16 + 1
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class CannotJournal(CacheFailed):
    """The journal cannot be read or written; the message names the file."""


@contextmanager
def journal_file(doing: str, path: str) -> Iterator[None]:
    """Around whatever a file of the journal is ``doing`` ("read", "write"): an ``OSError`` becomes ``CannotJournal``.

    As one of the file system's own errors it would be taken for that of a video by whoever has work done that needs
    the journal and the video alike.
    """
    try:
        yield
    except OSError as error:
        raise cannot(doing, path, error) from error


def cannot(doing: str, path: str, error: OSError) -> CannotJournal:
    """The error to raise in the place of the file system's own."""
    return CannotJournal(f"cannot {doing} the journal {path}: {error.strerror or error}")


class Line(NamedTuple):
    """One line of a segment as it was found; ``data`` is its JSON."""

    offset: int
    length: int
    key: str
    subject: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Damage:
    """A stretch of a segment that is no line: "torn" at the very end, as a killed process leaves it, or "corrupt"."""

    offset: int
    length: int
    kind: Literal["torn", "corrupt"]


def line_of(key: str, subject: str, data: bytes) -> bytes:
    """A line: ``key`` has 32 hex digits, ``subject`` 16, ``data`` holds no newline."""
    body = b"%s %s %s\n" % (key.encode(), subject.encode(), data)
    return b"%08x %s" % (zlib.crc32(body), body)


def read_line(raw: bytes, offset: int = 0) -> Line | None:
    """The line that ``raw`` (with its newline) holds, or None where its checksum does not fit."""
    body = raw[9:]
    if len(raw) <= _PREFIX or not body.endswith(b"\n") or raw[:9] != b"%08x " % zlib.crc32(body):
        return None
    key, subject, data = body[:-1].split(b" ", 2)
    return Line(offset, len(raw), key.decode(), subject.decode(), data)


def scan(file: Iterable[bytes], offset: int = 0) -> Iterator[Line | Damage]:
    """The lines of a segment, opened as a binary file that stands at ``offset``, in order.

    What is no line is reported and passed over.
    """
    for raw in file:
        line = read_line(raw, offset)
        if line is not None:
            yield line
        else:
            yield Damage(offset, len(raw), "corrupt" if raw.endswith(b"\n") else "torn")
        offset += len(raw)


def segment_name(begun: str) -> str:
    """A new name for a segment of this process that begins with a time, by which names sort."""
    return f"{begun}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"


class Segment:
    """A segment file that this process appends to; safe to use from threads.

    A line is in the kernel's hands when ``append`` returns, so it survives the end of the process however it ends. What
    a power cut can take is bounded by ``fdatasync``, once a second while lines are appended. Raises ``CannotJournal``.
    """

    def __init__(self, folder: str) -> None:
        self.path = os.path.join(folder, segment_name(datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")))
        self.lines = 0
        self._synced_s = time.monotonic()
        self._size = 0
        self._spoilt = False
        self._writing = threading.Lock()
        with journal_file("write", self.path):
            os.makedirs(folder, exist_ok=True)
            self._fd = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_WRONLY, 0o644)

    def append(self, line: bytes) -> int:
        """Write one line whole, or not at all; returns its offset.

        Raises:
            CannotJournal: the disk is full, or the file cannot be written for another reason.
        """
        with self._writing:
            if self._spoilt:
                raise CannotJournal(f"the journal {self.path} ends in half a line; start again")
            offset, written = self._size, 0
            try:
                while written < len(line):
                    written += os.write(self._fd, line[written:])
                now = time.monotonic()
                if now - self._synced_s >= SYNC_PERIOD_S:
                    self._synced_s = now
                    _sync(self._fd)
            except OSError as error:
                self._spoilt = True  # half a line would spoil the next one
                with suppress(OSError):
                    os.ftruncate(self._fd, offset)
                    self._spoilt = False
                raise CannotJournal(f"cannot write the journal {self.path}: {error.strerror}") from error
            self._size += written
            self.lines += 1
            return offset

    def close(self) -> None:
        """Bring everything to the disk."""
        with self._writing:
            with suppress(OSError):  # whatever a full disk has to say was said by append
                _sync(self._fd)
            with journal_file("write", self.path):
                os.close(self._fd)


class Index:
    """Places by 64-bit key, in the order in which they were added: 16 bytes a record, however many there are.

    Sorting all for every few that come would take as long as the work. They lie apart, at some 200 bytes each, until
    they are a sixteenth of all.
    """

    def __init__(self) -> None:
        self._keys: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._places: NDArray[np.uint64] = np.empty(0, np.uint64)
        self._recent: dict[int, list[int]] = {}
        self._apart = 0

    def extend(self, keys: array[int], places: array[int]) -> None:
        """Add many at once."""
        if not len(self._keys) or len(keys) > self._room():
            self._sort_in(keys, places)
        else:
            for key, place in zip(keys, places, strict=True):
                self.add(key, place)

    def add(self, key: int, place: int) -> None:
        """Add one."""
        self._recent.setdefault(key, []).append(place)
        self._apart += 1
        if self._apart > self._room():
            self._sort_in(array("Q"), array("Q"))

    def _room(self) -> int:
        """How many may lie apart."""
        return max(APART, len(self._keys) // 16)

    def _sort_in(self, keys: array[int], places: array[int]) -> None:
        """Bring those that lie apart among the sorted ones, and then the given ones."""
        apart_keys = array("Q", (key for key, held in self._recent.items() for _ in held))
        apart_places = array("Q", (place for held in self._recent.values() for place in held))
        all_keys = np.concatenate([self._keys, np.asarray(apart_keys), np.asarray(keys)])
        all_places = np.concatenate([self._places, np.asarray(apart_places), np.asarray(places)])
        order = np.argsort(all_keys, kind="stable")
        self._keys, self._places = all_keys[order], all_places[order]
        self._recent, self._apart = {}, 0

    def places(self, key: int) -> list[int]:
        """All places of a key."""
        keys = self._keys.data  # a tenth of the time that an array takes of NumPy's, for one key
        first = last = bisect_left(keys, key)
        while last < len(keys) and keys[last] == key:
            last += 1
        return [*self._places.data[first:last], *self._recent.get(key, ())]

    def some(self, n: int) -> list[int]:
        """At most ``n`` of the sorted places; a random sample, since keys are hashes."""
        return [*map(int, self._places[:n])]

    def __len__(self) -> int:
        return len(self._keys) + self._apart
