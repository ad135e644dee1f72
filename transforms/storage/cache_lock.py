"""Who uses a cache: runs share it, and what removes files has it to itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from transforms.storage.address import is_remote
from transforms.storage.file_lock import Busy, FileLock, users_in

LOCK = ".in-use"  # lists the processes that have taken a share since the cache was last pruned


class CacheInUse(RuntimeError):
    """A run is active on the cache; one line that names its process."""


@contextmanager
def sharing(root: str) -> Iterator[None]:
    """Keep files from being removed within the block; waits for who is removing some.

    Does nothing under a remote root, which knows no locks, and where the folder cannot be written to.
    """
    with ExitStack() as held:
        # No right to write, no room for a name, or a file system that cannot lock: no reason not to run.
        with suppress(OSError):
            if not is_remote(root):
                held.enter_context(FileLock(_path(root), shared=True, wait=True)).sign()
        yield


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
    try:
        lock = FileLock(_path(root))
    except Busy as busy:
        who = users_in(busy.content) or "another process"
        raise CacheInUse(f"the cache {root} is in use by {who}; wait for it to end") from busy
    with lock:
        lock.write(b"")
        yield


def _path(root: str) -> str:
    os.makedirs(root, exist_ok=True)
    return os.path.join(root, LOCK)
