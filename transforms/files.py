"""Files of the output folder, on any Beam filesystem: written under a temporary name, then renamed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems


def join(root: str, *parts: str) -> str:
    """A path below ``root`` on whatever filesystem it names."""
    path: str = FileSystems.join(root, *parts)
    return path


def make_parent(path: str) -> None:
    """Create the folder of ``path`` where the filesystem has folders; several workers may do so at once."""
    folder = FileSystems.split(path)[0]
    if folder and not FileSystems.exists(folder):
        try:
            FileSystems.mkdirs(folder)
        except OSError:
            if not FileSystems.exists(folder):
                raise


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A binary stream whose content appears at ``path`` only when the block ends without an error.

    Writers of the same path do not disturb each other: each has a temporary file of its own, and the last one stays.
    """
    make_parent(path)
    temporary = f"{path}.{uuid.uuid4().hex}.tmp"
    stream = FileSystems.create(temporary, "application/octet-stream", CompressionTypes.UNCOMPRESSED)
    try:
        with stream:
            yield stream
    except BaseException:
        FileSystems.delete([temporary])
        raise
    FileSystems.rename([temporary], [path])  # replaces: a rename on a disk, a copy on an object store


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole small file."""
    with replacing(path) as stream:
        stream.write(data)


def read_bytes(path: str) -> bytes:
    """Read a whole file. Raises FileNotFoundError where there is none."""
    if not FileSystems.exists(path):
        raise FileNotFoundError(path)
    with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        data: bytes = stream.read()
    return data


def open_seekable(path: str) -> BinaryIO:
    """A seekable stream for pyarrow; on object stores it reads ranges."""
    stream: BinaryIO = FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    return stream


def list_files(root: str) -> list[str]:
    """All files below ``root``, as paths relative to it with forward slashes, sorted; empty where nothing is."""
    base = root.rstrip("/") + "/"
    found = FileSystems.match([base + "**"])[0].metadata_list
    return sorted(metadata.path[len(base) :] for metadata in found)
