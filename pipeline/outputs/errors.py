"""What can be wrong with a folder that is to be written to or read as an output; each error is one line for people."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

_FIXES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room there",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.EROFS: "make it writable, or name another folder",
    errno.EACCES: "make it writable, or name another folder",
}


class OutputError(ValueError):
    """An output folder that must not or cannot be written to; one line that says why."""


class NotPublished(RuntimeError):
    """A run came to its end, and what it made must not take the place of an earlier output; the message says why.

    It stays in the staging folder, where it can be looked at, until the next run.
    """


class UnsoundOutput(NotPublished):
    """What was staged breaks the rules of verification."""


class StepLost(NotPublished):
    """A step lost all of its items to failures."""


class NotAnOutput(ValueError):
    """A folder that is not a finished output, or one of another version; one line that says which."""


class UnreadableOutput(NotAnOutput):
    """A file of a finished output is missing or damaged; ``file`` is its path within the output."""

    def __init__(self, output: str, file: str, reason: object) -> None:
        self.file = file
        self.reason = " ".join(str(reason).split())
        super().__init__(f"{output}: {file} cannot be read ({self.reason}): run hardquery verify {output}")


class UnwritableExport(NotAnOutput):
    """A destination that cannot become the folder of an export."""


@contextmanager
def reading(output: str, file: str) -> Iterator[None]:
    """Turn what a missing or damaged ``file`` raises within the block into UnreadableOutput."""
    try:
        yield
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:  # pyarrow reports damaged pages as OSError
        raise UnreadableOutput(output, file, error) from error


def with_fix(said: str) -> str:
    """What a file system said, and what to do about it where that is known; Beam hands errors on as text."""
    fixes = (fix for number, fix in _FIXES.items() if os.strerror(number) in said)
    return "; ".join([said, *list(fixes)[:1]])
