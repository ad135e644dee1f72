"""One step's part of the journal: all its segments, read once into an index, and the one that this process writes."""

from __future__ import annotations

import os
import threading
import time
from array import array
from collections.abc import Iterable, Iterator
from contextlib import suppress

from transforms.journal.segments import (
    SUFFIX,
    CannotJournal,
    Index,
    Line,
    Segment,
    cannot,
    journal_file,
    read_line,
    scan,
)
from transforms.journal.spool import LINES, PERIOD_S, Spool
from transforms.storage.address import is_remote

FOLDER = "journal"
REFRESH_PERIOD_S = 1.0
MISSES = 64  # each means work to be done, beside which a request to list what is new is little
_A_PIECE = 1 << 13  # most lines are shorter
_OFFSET_BITS = 44  # of a place: 16 TiB a segment, a million segments


class StepLog:
    """The records of one step under a cache root, for one process; safe to use from threads.

    Records that other processes append meanwhile are found too: under a local root at most ``REFRESH_PERIOD_S`` late;
    under a remote one, where segments are written to a spool on this machine and sent on from there, by the first
    record that is missed after ``look_again``, and every ``MISSES`` later. Of several records of a key the first one by
    the name of its segment counts; while two attempts of a bundle are at work at once, each may count its own.
    ``subjects`` keeps a second index, by subject. Whatever cannot read or write a file raises ``CannotJournal``.
    """

    def __init__(self, root: str, step: str, subjects: bool = False) -> None:
        self.damage: list[str] = []
        self._spool = Spool(root, step) if is_remote(root) else None
        self._folder = self._spool.folder if self._spool else os.path.join(root, FOLDER, step)
        self._records = Index()
        self._subjects = Index() if subjects else None
        self._files: list[str] = []  # a place holds an index of this list
        self._scanned: dict[str, int] = {}  # how far each file of the folder was read
        self._own: Segment | None = None
        self._own_number = -1
        self._unsent: CannotJournal | None = None  # raised in a thread that nobody listens to
        self._refreshed_s = float("-inf")
        self._missed = 0  # since what others sent was looked for
        self._fetching = threading.Lock()  # taken before the next one, so that what is found waits for no store
        self._working = threading.RLock()
        self._sending = threading.Lock()  # taken before the other one, so that no look-up waits for the store
        with self._working:
            if self._spool is not None:
                self._take_in([self._spool.fetch()])
            else:
                self._refresh()

    def __len__(self) -> int:
        return len(self._records)

    def find(self, digest: str) -> Iterator[bytes]:
        """The JSON of every record of a key, in the order of the segments' names and of their lines."""
        for place in self._places(int(digest[:16], 16)):
            line = self._line(place)
            if line is not None and line.key == digest:
                yield line.data

    def last_of(self, subject: str) -> bytes | None:
        """The JSON of the last record of a subject; the log was made with ``subjects``."""
        with self._working:
            places = self._subjects.places(int(subject, 16)) if self._subjects is not None else []
        line = self._line(places[-1]) if places else None
        return line.data if line is not None else None

    def some(self, n: int) -> Iterator[bytes]:
        """The JSON of at most ``n`` records that were here before this process wrote any, chosen by chance."""
        with self._working:
            places = self._records.some(n)
        yield from (line.data for place in places if (line := self._line(place)) is not None)

    def append(self, digest: str, subject: str, line: bytes) -> None:
        """Record one line, whose key and subject these are. Raises ``CannotJournal``."""
        with self._working:
            if self._own is None:
                self._open()
            own, number = self._own, self._own_number
            assert own is not None
            place = number << _OFFSET_BITS | own.append(line)
            self._records.add(int(digest[:16], 16), place)
            if self._subjects is not None:
                self._subjects.add(int(subject, 16), place)
            if self._unsent is not None:
                raise self._unsent
        if self._spool is not None and own.lines >= LINES:
            self._ship(own)

    def look_again(self) -> None:
        """Have the next record that is missed looked for among what others have sent."""
        self._missed = MISSES

    def flush(self) -> None:
        """Have all that was appended where other processes find it. Raises ``CannotJournal``."""
        if self._spool is not None:
            self._ship()
            if self._unsent is not None:
                raise self._unsent

    def close(self) -> None:
        """Write out what is under way and release all files."""
        try:
            self._ship()
        finally:
            if self._spool is not None:
                self._spool.close()
        if self._unsent is not None:
            raise self._unsent

    def _open(self) -> None:
        self._own = Segment(self._folder)
        self._own_number = len(self._files)
        self._files.append(self._own.path)
        if self._spool is not None:
            timer = threading.Timer(PERIOD_S, self._ship_late, [self._own])
            timer.daemon = True
            timer.start()

    def _ship_late(self, segment: Segment) -> None:
        try:
            self._ship(segment)
        except CannotJournal as error:
            self._unsent = error

    def _ship(self, segment: Segment | None = None) -> None:
        """Finish the segment under way, unless it is another than the given one by now."""
        with self._sending:
            with self._working:
                own = self._own
                if own is None or segment not in (None, own):
                    return
                self._own = None
                own.close()
                with journal_file("read", own.path):
                    self._scanned[own.path] = os.path.getsize(own.path)
            if self._spool is not None:
                self._spool.ship(own.path)

    def _places(self, key: int) -> list[int]:
        with self._working:
            places = self._records.places(key)
            if places:
                return places
            if self._spool is None:
                if time.monotonic() - self._refreshed_s >= REFRESH_PERIOD_S:
                    self._refresh()
                return self._records.places(key)
        self._fetch(self._spool)
        with self._working:
            return self._records.places(key)

    def _fetch(self, spool: Spool) -> None:
        """After a miss: take in what others have sent, if it is time."""
        with self._fetching:
            self._missed += 1
            if self._missed <= MISSES:
                return
            self._missed = 0
            path = spool.fetch()
            with self._working:
                self._take_in([path])

    def _refresh(self) -> None:
        """Read what is new in the folder."""
        self._refreshed_s = time.monotonic()
        names: list[str] = []
        with journal_file("read", self._folder), suppress(FileNotFoundError, NotADirectoryError):
            names = sorted(os.listdir(self._folder))
        paths = [os.path.join(self._folder, name) for name in names if name.endswith(SUFFIX)]
        own = self._own.path if self._own else None
        self._take_in(path for path in paths if path != own)

    def _take_in(self, paths: Iterable[str]) -> None:
        """Put the lines of files that were not read yet into the index, which sorts itself once for all of them."""
        keys, subjects, places = array("Q"), array("Q"), array("Q")
        for path in paths:
            # A folder that we may only read can be pruned meanwhile.
            with journal_file("read", path), suppress(FileNotFoundError):
                if os.path.getsize(path) > self._scanned.get(path, 0):
                    for line, place in self._new_lines(path):
                        keys.append(int(line.key[:16], 16))
                        subjects.append(int(line.subject, 16))
                        places.append(place)
        if places:
            self._records.extend(keys, places)
            if self._subjects is not None:
                self._subjects.extend(subjects, places)

    def _new_lines(self, path: str) -> Iterator[tuple[Line, int]]:
        """Each line of a file that was not read yet, and its place."""
        start = self._scanned.get(path, 0)
        with open(path, "rb", buffering=1 << 20) as file:
            if path not in self._scanned:
                self._files.append(path)
            number = self._files.index(path) << _OFFSET_BITS
            self._scanned[path] = file.seek(start)
            for line in scan(file, start):
                if isinstance(line, Line):
                    yield line, number | line.offset
                elif line.kind == "torn":
                    break  # by a process that was killed here, or that is still writing
                else:
                    self._note_damage(path, line.offset)
                self._scanned[path] = line.offset + line.length

    def _line(self, place: int) -> Line | None:
        """The line at a place; None where it was damaged, or its file removed, after it was read."""
        path, offset = self._files[place >> _OFFSET_BITS], place & ((1 << _OFFSET_BITS) - 1)
        try:
            file = os.open(path, os.O_RDONLY)  # a buffered file takes longer to set up than a line to read
            try:
                line = read_line(_raw_line(file, offset), offset)
            finally:
                os.close(file)
        except FileNotFoundError:
            return None
        except OSError as error:  # as if it were not there, its work would be done and paid for again
            raise cannot("read", path, error) from error
        if line is None:
            self._note_damage(path, offset)
        return line

    def _note_damage(self, path: str, offset: int) -> None:
        # Offsets in our copy of what others sent would tell nobody anything.
        self.damage.append(f"{self._spool.url}: damaged" if self._spool else f"{path}: damaged at {offset}")


def _raw_line(file: int, offset: int) -> bytes:
    """What an open file holds from there up to the end of the line."""
    more = os.pread(file, _A_PIECE, offset)
    if end := more.find(b"\n") + 1:
        return more[:end]  # as nearly always
    pieces, size, offset = [more], 2 * _A_PIECE, offset + len(more)
    while more := os.pread(file, size, offset):
        end = more.find(b"\n") + 1
        pieces.append(more[:end] if end else more)
        if end:
            break
        offset, size = offset + len(more), 2 * size  # few reads of a long line, and at most twice its length
    return b"".join(pieces)
