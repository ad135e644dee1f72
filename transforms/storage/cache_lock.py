"""Who uses a cache: runs share it, and what removes files has it to itself. The kernel releases either lock."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from transforms.storage.cache import is_remote

LOCK = ".in-use"  # lists the processes that have taken a share since the cache was last pruned


class CacheInUse(RuntimeError):
    """A run is active on the cache; one line that names its process."""


@contextmanager
def sharing(root: str) -> Iterator[None]:
    """Keep files from being removed within the block; waits for who is removing some.

    Does nothing under a remote root, which knows no locks, and where the folder cannot be written to.
    """
    try:
        lock = None if is_remote(root) else _open(root)
    except OSError:
        lock = None
    if lock is None:
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        os.write(lock, f"{os.getpid()} {socket.gethostname()}\n".encode())
    except OSError:  # no room for a name, or a file system that cannot lock: no reason not to run
        pass
    try:
        yield
    finally:
        os.close(lock)


@contextmanager
def having_alone(root: str) -> Iterator[None]:
    """Let nobody else use the cache within the block; a remote root knows no locks.

    Raises:
        CacheInUse: somebody does.
        OSError: the folder cannot be written to, or its file system cannot lock.
    """
    if is_remote(root):
        yield
        return
    lock = _open(root)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise CacheInUse(f"the cache {root} is in use by {_users(lock)}; wait for it to end") from error
        os.ftruncate(lock, 0)
        yield
    finally:
        os.close(lock)


def _open(root: str) -> int:
    os.makedirs(root, exist_ok=True)
    return os.open(os.path.join(root, LOCK), os.O_CREAT | os.O_RDWR | os.O_APPEND, 0o666)


def _users(lock: int) -> str:
    """Who took a share and may still have it: living processes of this machine, and those of others."""
    listed = os.pread(lock, 1 << 20, 0).decode(errors="replace").splitlines()
    users = [(int(pid), host) for pid, _, host in (line.partition(" ") for line in listed) if pid.isdecimal()]
    active = [f"process {pid} on {host}" for pid, host in users if host != socket.gethostname() or is_alive(pid)]
    return " and ".join(dict.fromkeys(active[-3:])) or "another process"


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
