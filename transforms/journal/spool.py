"""Journal segments on their way to an object store, which cannot append: written on this machine first, then sent."""

from __future__ import annotations

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor

from schemas.fingerprint import fingerprint
from transforms.journal.segments import SUFFIX, CannotJournal, journal_file
from transforms.storage.cache import own_folder
from transforms.storage.file_lock import Busy, FileLock
from transforms.storage.files import join, list_files, read_bytes, replacing

# A segment is sent when it has so many lines, or is so old.
LINES = 64
PERIOD_S = 5.0
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

    def fetch(self) -> str:
        """Where copies of all segments that were sent so far lie: one file, in the order of their names."""
        whole = os.path.join(self.folder, "fetched")
        with journal_file("read", self.url), open(whole, "wb") as copy, ThreadPoolExecutor(_AT_ONCE) as pool:
            names = [name for name in list_files(self.url) if name.endswith(SUFFIX)]
            for first in range(0, len(names), _AT_ONCE):  # not all in memory at once
                for part in pool.map(self._read, names[first : first + _AT_ONCE]):
                    copy.write(part[: part.rfind(b"\n") + 1])  # a torn end must not spoil the next one's first line
        return whole

    def ship(self, path: str) -> None:
        """Send a finished segment, which can be read here until ``close``."""
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

    def _read(self, name: str) -> bytes:
        return read_bytes(join(self.url, name))

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
