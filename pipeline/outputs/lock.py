"""One run at a time an output folder: a lock that the end of the process releases, whatever that end is."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import takewhile

import msgspec

from pipeline.outputs.errors import OutputError, with_fix
from schemas.check import read_json
from transforms.storage.address import is_remote
from transforms.storage.file_lock import Busy, FileLock, is_alive
from transforms.storage.files import delete, join, read_bytes, write_bytes

LOCK = ".lock"

# Of a lock on an object store, which no kernel releases.
REFRESH_S = 60.0
STALE_S = 300.0
CONTEST_S = 2.0  # two runs that begin at once have both written by then, and one of them reads the other's lock

Confirm = Callable[[], None]


class LockLost(RuntimeError):
    """Another run has taken the output folder over, because this one's lock was removed or looked abandoned."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lock: the content of the lock file. Times are UTC in ISO 8601; ``token`` is new for every lock."""

    pid: int
    host: str
    started: str
    seen: str
    command: str
    token: str

    @classmethod
    def of_this_process(cls) -> Holder:
        """A new holder: this run, now."""
        now = _now()
        command = shlex.join(takewhile(lambda word: not word.startswith("-"), sys.argv))  # options may hold keys
        return cls(
            pid=os.getpid(), host=socket.gethostname(), started=now, seen=now, command=command, token=uuid.uuid4().hex
        )

    @property
    def is_gone(self) -> bool:
        """Whether the run has ended without removing its lock: its process is no more, or it has long been silent."""
        silent_s = (datetime.now(UTC) - datetime.fromisoformat(self.seen)).total_seconds()
        return silent_s > STALE_S or (self.host == socket.gethostname() and not is_alive(self.pid))


def hold(output: str) -> AbstractContextManager[Confirm]:
    """Hold the output folder, which is created, for this run alone.

    The block is given a function that raises LockLost unless the folder is still ours: to be called before the first
    file of an earlier output is replaced.

    Raises:
        OutputError: another run holds it, or it cannot be written to.
    """
    return (_hold_object if is_remote(output) else _hold_file)(output)


def holder_of(output: str) -> Holder | None:
    """The run that holds the output folder now; None where none does. Nothing is locked where a run might be."""
    path = join(output, LOCK)
    if (found := _read(path)) is None or found.is_gone:
        return None
    if not is_remote(output) and found.host == socket.gethostname():
        try:
            FileLock(path, shared=True).close()  # another process may have the number of one that was killed
        except Busy:
            return found
        return None
    return found


@contextmanager
def _hold_file(output: str) -> Iterator[Confirm]:
    path = os.path.join(output, LOCK)
    with ExitStack() as held:
        try:
            os.makedirs(output, exist_ok=True)
            lock = held.enter_context(FileLock(path))
            lock.write(msgspec.json.encode(Holder.of_this_process()))
        except Busy as busy:
            raise _in_use(output, _holder(busy.content)) from busy
        except OSError as error:
            raise _unwritable(output, error) from error

        def confirm() -> None:
            if not lock.is_in_place():
                raise LockLost(f"{path} was removed during the run")

        held.callback(lock.remove)
        yield confirm


@contextmanager
def _hold_object(output: str) -> Iterator[Confirm]:
    path, mine = join(output, LOCK), Holder.of_this_process()
    found = _read(path)
    if found is not None and not found.is_gone:
        raise _in_use(output, found)
    try:
        _write(path, mine)
    except Exception as error:  # each filesystem has its own errors
        raise _unwritable(output, error) from error
    time.sleep(CONTEST_S)

    def is_ours() -> bool:
        found = _read(path)
        return found is not None and found.token == mine.token

    def confirm() -> None:
        if not is_ours():
            raise LockLost(f"{path} is no longer of this run: it was removed, or another run has taken over")

    if not is_ours():
        raise _in_use(output, _read(path))
    over = threading.Event()

    def refresh() -> None:
        while not over.wait(REFRESH_S):
            try:
                if not is_ours():
                    return  # confirm will say so
                _write(path, replace(mine, seen=_now()))
            except Exception:  # noqa: BLE001 - each filesystem has its own errors; the next time may fare better
                continue

    refresher = threading.Thread(target=refresh, name="lock", daemon=True)
    refresher.start()
    try:
        yield confirm
    finally:
        over.set()
        refresher.join()
        with suppress(Exception):  # each filesystem has its own errors; a lock that stays behind is soon forgotten
            if is_ours():
                delete([path])


def _read(path: str) -> Holder | None:
    try:
        return _holder(read_bytes(path))
    except FileNotFoundError:
        return None


def _holder(content: bytes) -> Holder | None:
    try:
        return read_json(content, Holder)
    except (msgspec.DecodeError, UnicodeDecodeError):  # just created, or not ours
        return None


def _write(path: str, holder: Holder) -> None:
    write_bytes(path, msgspec.json.encode(holder))


def _in_use(output: str, holder: Holder | None) -> OutputError:
    who = f"process {holder.pid} on {holder.host}, since {holder.started}" if holder else "another run"
    said = f"--output {output!r} is in use by {who}: wait for it to end, or name another folder"
    if is_remote(output):
        said += f" (one that was killed is forgotten {STALE_S / 60:.0f} minutes later)"
    return OutputError(said)


def _unwritable(output: str, error: Exception) -> OutputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
    return OutputError(with_fix(f"--output {output!r} cannot be written to: {reason}"))
