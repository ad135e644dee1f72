"""Files on this machine and on any Beam filesystem: written under a temporary name, then renamed.

Files of this machine are reached without Beam, which takes a second to import and is not installed everywhere.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

from transforms.storage.address import is_remote

if TYPE_CHECKING:
    from apache_beam.options.pipeline_options import PipelineOptions

# No room on the disk, or for one more open file: no input is to blame for these, and no other will fare better.
MACHINE_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE)


class StoreError(OSError):
    """An object store refused or did not answer; one line with the address and the store's own words."""


@cache
def stores() -> Any:
    """Beam's filesystems, ``apache_beam.io.filesystems.FileSystems``, with its client of S3 put right."""
    from apache_beam.io.filesystems import FileSystems

    from transforms.storage import s3

    s3.install()
    return FileSystems


def connect(options: PipelineOptions, *places: str | None) -> None:
    """Give Beam's filesystems their options, and ask the store of each place, if it is in one, whether it answers.

    To be called before anything of an object store is read or written outside of a pipeline's workers. Beam itself
    would try for minutes, in silence, to reach a store that is not there, and take a missing bucket for an empty one.

    Raises:
        StoreError: with the fix.
    """
    from transforms.storage import gcs, s3

    stores().set_options(options)
    for place in filter(None, places):
        scheme, _, path = place.rpartition("://")
        require_filesystem(place)
        ask = {"s3": s3.why_unreachable, "gs": gcs.why_unreachable}.get(scheme)
        reason = ask(path.split("/")[0], options) if ask else None
        if reason:
            raise StoreError(f"{place} cannot be reached: {reason}")


def require_filesystem(path: str) -> None:
    """Raise StoreError where what reads and writes such paths is not installed."""
    if not is_remote(path):
        return
    try:
        stores().get_filesystem(path)
    except ValueError as error:
        scheme = path.partition("://")[0]
        fix = (
            "pip install 'hardquery[dataflow]'"
            if scheme == "gs"
            else "an address is a path, file:///…, s3://… or gs://…"
        )
        raise StoreError(f"{path}: no filesystem for {scheme}:// is installed; {fix}") from error


@contextmanager
def _saying(attempt: str, path: str) -> Iterator[None]:
    """Turn what an object store raises within the block into a StoreError, and that there is no such store."""
    require_filesystem(path)
    from apache_beam.io.filesystem import BeamIOError

    from transforms.storage.s3 import S3ClientError

    try:
        yield
    except (S3ClientError, BeamIOError) as error:
        raise StoreError(f"cannot {attempt} {path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What the store said, from inside the errors that Beam puts around it."""
    while details := getattr(error, "exception_details", None):
        error = next(iter(details.values()))
    from transforms.storage.s3 import S3ClientError

    return str(error.args[0]) if isinstance(error, S3ClientError) else f"{type(error).__name__}: {error}"


def join(root: str, *parts: str) -> str:
    """A path below ``root`` on whatever filesystem it names."""
    return str(stores().join(root, *parts)) if is_remote(root) else os.path.join(root, *parts)


def make_parent(path: str) -> None:
    """Create the folder of ``path`` where the filesystem has folders; several workers may do so at once."""
    if not is_remote(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        return
    if not stores().get_filesystem(path).has_dirs():
        return
    folder = stores().split(path)[0]
    if folder and not stores().exists(folder):
        try:
            stores().mkdirs(folder)
        except OSError:
            if not stores().exists(folder):
                raise


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A binary stream whose content appears at ``path`` only when the block ends without an error.

    Writers of the same path do not disturb each other: each has a temporary file of its own, and the last one stays.
    On object stores too: Beam closes, and so completes, an upload whatever has happened to its writer.

    Raises:
        StoreError: an object store does not take it.
    """
    make_parent(path)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    try:
        with _created(temporary, path) as stream:
            yield stream
        rename(temporary, path)
    except BaseException as error:  # an interrupt must not leave the temporary file behind either
        with suppress(OSError):  # the error that brought us here says more
            delete([temporary])
        if isinstance(error, OSError) and error.errno in MACHINE_FULL and error.filename is None:
            error.filename = path  # writing to an open file does not say which one
        raise


@contextmanager
def _created(temporary: str, path: str) -> Iterator[BinaryIO]:
    """A new file for what is to be at ``path``."""
    if not is_remote(path):
        with open(temporary, "wb") as file:
            yield file
        return
    from apache_beam.io.filesystem import CompressionTypes

    with (
        _saying("write", path),
        stores().create(temporary, "application/octet-stream", CompressionTypes.UNCOMPRESSED) as stream,
    ):
        yield stream


def rename(source: str, destination: str) -> None:
    """Move a file into the place of another: a rename on a disk, a copy on an object store."""
    if not is_remote(source):
        os.replace(source, destination)
        return
    with _saying("write", destination):
        stores().rename([source], [destination])


def delete(paths: Sequence[str]) -> None:
    """Remove files, and folders with all that is in them. Raises OSError where one is not there."""
    if paths and is_remote(paths[0]):
        with _saying("delete", paths[0]):
            stores().delete(list(paths))
        return
    for path in paths:
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole small file."""
    with replacing(path) as stream:
        stream.write(data)


@contextmanager
def _being_there(path: str) -> Iterator[None]:
    """Raise FileNotFoundError where there is no file, or it goes meanwhile, whatever error its store has of that."""
    if not exists(path):
        raise FileNotFoundError(path)
    try:
        yield
    except Exception as error:  # each filesystem has its own errors
        if exists(path):
            raise
        raise FileNotFoundError(path) from error


def read_bytes(path: str) -> bytes:
    """Read a whole file. Raises FileNotFoundError where there is none."""
    with _being_there(path), open_seekable(path) as stream:
        return stream.read()


def digest(path: str) -> tuple[str, int]:
    """SHA-256 and size of a file, read in blocks of 1 MiB. Raises FileNotFoundError where there is none."""
    sha256, size = hashlib.sha256(), 0
    with _being_there(path), open_seekable(path) as stream:
        while block := stream.read(1 << 20):
            sha256.update(block)
            size += len(block)
    return sha256.hexdigest(), size


def open_seekable(path: str) -> BinaryIO:
    """A seekable stream for pyarrow; on object stores it reads ranges."""
    if not is_remote(path):
        return open(path, "rb")
    from apache_beam.io.filesystem import CompressionTypes

    with _saying("read", path):
        stream: BinaryIO = stores().open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def exists(path: str) -> bool:
    """Whether there is a file at ``path``, or a folder where the filesystem has folders."""
    if not is_remote(path):
        return os.path.exists(path)
    with _saying("look for", path):
        return bool(stores().exists(path))


def size(path: str) -> int | None:
    """The bytes of the file at ``path``, whatever its name looks like; None where there is none."""
    with suppress(FileNotFoundError), _being_there(path):
        if not is_remote(path):
            return os.path.getsize(path)
        with _saying("look for", path):
            return int(stores().get_filesystem(path).metadata(path).size_in_bytes)
    return None


def match(pattern: str) -> list[str]:
    """All files that a pattern names: "*" stays within a folder, "**" does not; none where it can be no pattern."""
    return list(_sizes(pattern))


def list_files(root: str) -> list[str]:
    """All files below ``root``, as paths relative to it with forward slashes, sorted; empty where nothing is."""
    return list(list_sizes(root))


def list_sizes(root: str) -> dict[str, int]:
    """The bytes of every file of ``list_files``, in its order."""
    base = root.rstrip("/") + "/"
    if is_remote(root):
        return {path[len(base) :]: size for path, size in sorted(_sizes(glob.escape(base) + "**").items())}
    found: dict[str, int] = {}
    for folder, _, names in os.walk(base):
        for name in names:
            path = os.path.join(folder, name)
            with suppress(OSError):  # files may go while they are listed
                found[path[len(base) :]] = os.path.getsize(path)
    return dict(sorted(found.items()))


def _sizes(pattern: str) -> dict[str, int]:
    from apache_beam.io.filesystem import FileSystem

    try:
        re.compile(FileSystem.translate_pattern(pattern))
    except re.error:  # such as "[z-a]"
        return {}
    with _saying("list", pattern):
        found = stores().match([pattern])[0].metadata_list
    files = (each for each in found if not each.path.endswith("/"))  # as consoles mark empty folders
    return {each.path: int(each.size_in_bytes) for each in files}
