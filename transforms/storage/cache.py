"""Files under content-addressed keys in a folder, local or on any Beam file system; and media brought within reach."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from schemas.fingerprint import sha256_file
from transforms.storage.address import is_remote, local_path
from transforms.storage.cache_failed import CacheFailed
from transforms.storage.files import MACHINE_FULL, open_seekable, replacing, size


class CannotFetch(OSError):
    """A remote file could not be read; the message names it and the file system's own error."""


class CannotPublish(CacheFailed):
    """A file could not be written to the cache."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """A file as it was published: its key, size and SHA-256."""

    key: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Cache:
    """Files that never change, under keys such as ``frames/3f/3f2a….parquet``; ``root`` is a folder or a Beam URL."""

    root: str

    def size(self, key: str) -> int | None:
        """The bytes of the file under this key, None where there is none."""
        if not is_remote(self.root):
            try:
                return os.stat(self._url(key)).st_size
            except FileNotFoundError:
                return None
        return size(self._url(key))

    def holds(self, file: CachedFile) -> bool:
        """Whether a file that was published is still there, as far as its size tells."""
        return self.size(file.key) == file.size_bytes

    def publish(self, local_path: str, key: str) -> CachedFile:
        """Copy a local file to ``key``, whole or not at all. Equal keys mean equal content: the last copy stays.

        Raises:
            CannotPublish: the cache is full, read-only or out of reach.
        """
        try:
            published = CachedFile(key, os.path.getsize(local_path), sha256_file(local_path))
            with open(local_path, "rb") as source, replacing(self._url(key)) as copy:
                shutil.copyfileobj(source, copy)
        except Exception as error:  # each filesystem has its own errors
            message = f"cannot write {key} to the cache {self.root}: {type(error).__name__}: {error}"
            raise CannotPublish(message) from error
        return published

    @contextmanager
    def reading(self, key: str) -> Iterator[str]:
        """A local path of the file under ``key``: itself under a local root, else a copy that is removed afterwards.

        Raises:
            FileNotFoundError: nothing was published under this key at a local root.
            CannotFetch: a remote root did not deliver it.
        """
        if not is_remote(self.root):
            path = Path(self.root) / key
            if not path.exists():
                raise FileNotFoundError(f"the cache {self.root} holds no {key}; was it emptied during the run?")
            yield str(path)
            return
        with tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
            path = Path(folder) / Path(key).name
            _download(self._url(key), path)
            yield str(path)

    def _url(self, key: str) -> str:
        return f"{self.root.rstrip('/')}/{key}"


def localized(uri: str, folder: str) -> str:
    """A local path for the media file at ``uri``: itself where it is local, else a copy in ``folder``.

    Raises:
        OSError: it is missing, unreadable, or no regular file (opening a pipe or a device might never return).
        CannotFetch: a remote file system did not deliver it.
    """
    if not is_remote(uri):
        path = local_path(uri)
        _require_regular_file(path)
        return path
    copy = Path(folder) / f"media{Path(uri).suffix}"
    _download(uri, copy)
    return str(copy)


def _require_regular_file(path: str) -> None:
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{path} is a folder; name the videos in it or give a glob")
    if not stat.S_ISREG(mode):
        raise OSError(f"{path} is no regular file (a pipe, socket or device)")
    with open(path, "rb"):  # says at once, and in Python's words, whether it may be read
        pass


def _download(url: str, path: Path) -> None:
    try:
        with open_seekable(url) as source, path.open("wb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except Exception as error:  # each filesystem has its own errors
        path.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in MACHINE_FULL:
            raise
        raise CannotFetch(f"cannot read {url}: {type(error).__name__}: {error}") from error
