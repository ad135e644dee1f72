"""Locks on files and folders of this machine: the kernel releases them when their process ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import socket
from types import TracebackType


class Busy(Exception):
    """Another holder, of this process or another one, has the lock; ``content`` is what the file says of it."""

    def __init__(self, path: str, content: bytes) -> None:
        super().__init__(f"{path} is locked by {users_in(content) or 'another process'}")
        self.content = content


class FileLock:
    """A file, which is created where there is none, or a folder, locked until ``close`` or the end of the block.

    Many may hold a ``shared`` lock, one alone any other; who comes too late is told ``Busy``, or waits. A link is never
    followed, and what the file held before stays until it is written to. Every FileLock counts as a holder of its own,
    in threads of one process too.

    Raises:
        Busy: it is held, and this one is not to ``wait``.
        OSError: it cannot be opened, is a link, or its file system cannot lock.
    """

    def __init__(self, path: str, *, shared: bool = False, wait: bool = False, folder: bool = False) -> None:
        self.path = path
        flags = os.O_RDONLY | os.O_DIRECTORY if folder else os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        how = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        while True:
            self._fd = os.open(path, flags, 0o666)
            try:
                fcntl.flock(self._fd, how)
                if self.is_in_place():
                    return
            except BlockingIOError as error:
                content = b"" if folder else self.read()
                self.close()
                raise Busy(path, content) from error
            except BaseException:
                self.close()
                raise
            self.close()  # its holder removed it between our opening and locking it: try the next one

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def is_in_place(self) -> bool:
        """Whether the locked file is still the one at its path."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def read(self) -> bytes:
        """What the file says, at most a mebibyte of it."""
        return os.pread(self._fd, 1 << 20, 0)

    def write(self, content: bytes) -> None:
        """Have the file say this and nothing else."""
        os.ftruncate(self._fd, 0)
        os.write(self._fd, content)

    def sign(self) -> None:
        """Add a line that names this process, for ``users_in``."""
        os.write(self._fd, f"{os.getpid()} {socket.gethostname()}\n".encode())

    def remove(self) -> None:
        """Remove the file while nobody else can have locked it, unless another took its place."""
        if self.is_in_place():
            os.unlink(self.path)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._fd)


def users_in(content: bytes) -> str:
    """Who signed a file and may still have it: living processes of this machine, and those of others; "" for nobody."""
    lines = (line.partition(" ") for line in content.decode(errors="replace").splitlines())
    users = [(int(pid), host) for pid, _, host in lines if pid.isdecimal()]
    active = [f"process {pid} on {host}" for pid, host in users if host != socket.gethostname() or is_alive(pid)]
    return " and ".join(dict.fromkeys(active[-3:]))


def is_alive(pid: int) -> bool:
    """Whether there is a process of this id on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
