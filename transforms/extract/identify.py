"""Which bytes a media address holds: their hash, computed once for each state that its file is in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from schemas.fingerprint import sha256_file
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.journal.open_journal import NOT_RUN
from transforms.journal.record import Key
from transforms.storage.address import is_remote, local_path
from transforms.storage.cache import CannotFetch, localized
from transforms.storage.files import MACHINE_FULL, size, stores


class ChangedMeanwhile(OSError):
    """A file was written to while it was read."""


class OutOfReach(Exception):
    """Media that cannot be read; ``kind``, ``error_class`` and ``message`` are those of the filesystem's own error."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.kind: type[Exception] = type(error)
        self.error_class, self.message = self.kind.__name__, str(error)


@dataclass(frozen=True)
class Media:
    """The media at an address, brought within reach at most once, into ``folder`` where it is remote."""

    uri: str
    folder: str

    @cached_property
    def path(self) -> str:
        """A local path. Raises ``OutOfReach``, and OSError where this machine's disk is full."""
        with _out_of_reach():
            return localized(self.uri, self.folder)

    @cached_property
    def state(self) -> str:
        """What tells a file that was written to from one that was not, as it was when this was asked for first."""
        with _out_of_reach():
            return state_of(self.uri)

    def require_unchanged(self) -> None:
        """Raises ``OutOfReach`` where the media is not in ``state`` any more: what was read is of other bytes."""
        with _out_of_reach():
            if state_of(self.uri) != self.state:
                raise ChangedMeanwhile(f"{self.uri} changed while it was read")

    def sha256(self, journal: Journal) -> str:
        """The hash of its bytes.

        A file that is as it was when it was hashed is not read again: same size, times and inode on a disk, same size,
        time and checksum in an object store. A journal that only looks hashes local files where that can be of use, and
        fetches nothing.

        Raises:
            OutOfReach: the media is missing, cannot be read, or changed meanwhile.
            CannotJournal: the journal cannot be read or written.
            Deferred: the hash is not known, and this journal only looks.
        """

        def work() -> str:
            if journal.look_only and (is_remote(self.uri) or not journal.holds("decode")):
                raise Deferred(NOT_RUN)
            path = self.path
            with _out_of_reach():
                sha256 = sha256_file(path)
            self.require_unchanged()
            return sha256

        # The journal's own errors are no video's: only what touches the media is within _out_of_reach.
        return journal.once(media_key(self.uri, self.state), work, str)


def media_key(uri: str, state: str) -> Key:
    """The key of the hash of a file in this state, see ``state_of``."""
    return Key("media", uri, inputs={"file": uri, "state": state})


@contextmanager
def _out_of_reach() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in MACHINE_FULL:
            raise
        raise OutOfReach(error) from error


def state_of(uri: str) -> str:
    """What tells a file that was written to from one that was not. Raises OSError."""
    if not is_remote(uri):
        stat = os.stat(local_path(uri))
        return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
    found = size(uri)
    if found is None:
        raise FileNotFoundError(f"{uri} does not exist")
    try:
        return f"{found} {stores().checksum(uri)}"
    except Exception as error:  # each filesystem has its own errors
        raise CannotFetch(f"cannot read {uri}: {type(error).__name__}: {error}") from error
