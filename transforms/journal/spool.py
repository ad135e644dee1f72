"""Journal segments on their way to an object store, which cannot append: written on this machine first, then sent."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from schemas.fingerprint import fingerprint
from transforms.journal.segments import SUFFIX, CannotJournal, journal_file
from transforms.storage.file_lock import Busy, FileLock
from transforms.storage.files import join, list_files, match, read_bytes, replacing
from transforms.storage.local_file import own_folder

# A segment is sent when it has so many lines, or is so old.
LINES = 64
PERIOD_S = 5.0
CLOCKS_DIFFER = timedelta(minutes=30)  # at most, of the machines of a job; and a segment is sent within PERIOD_S
_AT_ONCE = 16  # requests to the store
_SENT = ".sent"  # a mark beside a segment that was sent, which is kept while its process may read from it


class Spool:
    """The segments of one step that this process writes for a remote root, sent whole, and copies of all others.

    They lie in a folder of this process alone, which is locked while it lives. What a process that was killed had not
    sent is sent by the next one of this machine that opens the same root.
    """

    def __init__(self, root: str, step: str) -> None:
        beside = os.path.join(own_folder(), "spool", fingerprint(root.rstrip("/")), step)
        self.url = join(root, "journal", step)
        try:
            os.makedirs(beside, exist_ok=True)
        except OSError as error:
            fix = "set XDG_CACHE_HOME to a folder that can be written to"
            raise CannotJournal(f"cannot write the journal in {beside}: {error.strerror}; {fix}") from error
        with journal_file("write", beside), FileLock(beside, folder=True, wait=True):
            for name in sorted(os.listdir(beside)):
                self._send_left(os.path.join(beside, name))
            self.folder = tempfile.mkdtemp(dir=beside)
            self._lock = FileLock(self.folder, folder=True, wait=True)
        self._known: set[str] = set()  # the names of segments that need not be fetched
        self._listed: datetime | None = None
        self._fetches = 0

    def fetch(self) -> str:
        """Where copies lie of all segments sent so far but our own and those fetched before: one file, by their names.

        Only the first time is everything listed: names begin with the time, and later ones are of the last hours.
        """
        whole = os.path.join(self.folder, f"fetched-{self._fetches}")
        self._fetches += 1
        with journal_file("read", self.url), open(whole, "wb") as copy, ThreadPoolExecutor(_AT_ONCE) as pool:
            is_complete = False
            while not is_complete:
                names = [name for name in self._list() if name not in self._known]
                self._known.update(names)
                is_complete = True
                for first in range(0, len(names), _AT_ONCE):  # not all in memory at once
                    for part in pool.map(self._read, names[first : first + _AT_ONCE]):
                        if part is None:  # what it held was made part of another one since it was listed
                            is_complete, self._listed = False, None
                        else:
                            copy.write(part[: part.rfind(b"\n") + 1])  # a torn end must not spoil the next first line
        return whole

    def _list(self) -> list[str]:
        now, since = datetime.now(UTC), self._listed
        self._listed = now
        if since is None:
            return [name for name in list_files(self.url) if name.endswith(SUFFIX)]
        first, last = (int(moment.timestamp()) // 3600 for moment in (since - CLOCKS_DIFFER, now + CLOCKS_DIFFER))
        stamps = (datetime.fromtimestamp(3600 * hour, UTC).strftime("%Y%m%dT%H") for hour in range(first, last + 1))
        paths = (path for stamp in stamps for path in match(join(self.url, f"{stamp}*{SUFFIX}")))
        return sorted(path.rpartition("/")[2] for path in paths)

    def ship(self, path: str) -> None:
        """Send a finished segment, which can be read here until ``close``."""
        self._known.add(os.path.basename(path))
        self._send(path)
        with journal_file("write", path):
            open(path + _SENT, "wb").close()

    def close(self) -> None:
        """Remove the folder, unless something in it is yet to be sent."""
        with journal_file("write", self.folder):
            if not _unsent(self.folder):
                shutil.rmtree(self.folder)
            self._lock.close()

    def _send_left(self, folder: str) -> None:
        """Send what a process left that ended without doing so."""
        try:
            with FileLock(folder, folder=True):
                for path in _unsent(folder):
                    self._send(path)
                shutil.rmtree(folder)
        except (Busy, FileNotFoundError):  # it lives, or has just ended in order
            return

    def _read(self, name: str) -> bytes | None:
        try:
            return read_bytes(join(self.url, name))
        except FileNotFoundError:
            return None

    def _send(self, path: str) -> None:
        target = join(self.url, os.path.basename(path))
        try:
            with open(path, "rb") as source, replacing(target) as copy:
                shutil.copyfileobj(source, copy, 1 << 20)
        except Exception as error:  # each filesystem has its own errors
            raise CannotJournal(f"cannot send the journal to {target}: {type(error).__name__}: {error}") from error


def _unsent(folder: str) -> list[str]:
    paths = [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(SUFFIX)]
    return [path for path in paths if not os.path.exists(path + _SENT)]
