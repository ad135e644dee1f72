"""An object store for tests, in memory: flat keys, no folders, and a rename that is a copy and a delete."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import ClassVar

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem


class Upload(io.BytesIO):
    """Becomes an object when it is closed without an error, as an upload does."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._key = key

    def close(self) -> None:
        if not self.closed:
            ObjectStore.objects[self._key] = self.getvalue()
        super().close()


class ObjectStore(FileSystem):
    """Objects under ``objects://…``; clear ``objects`` before each test."""

    objects: ClassVar[dict[str, bytes]] = {}

    @classmethod
    def scheme(cls):
        return "objects"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix) -> Iterator[FileMetadata]:
        for key in [key for key in self.objects if key.startswith(dir_or_prefix)]:
            yield FileMetadata(key, len(self.objects[key]), 0.0)

    def create(self, path, mime_type="", compression_type=""):
        return Upload(path)

    def open(self, path, mime_type="", compression_type=""):
        return io.BytesIO(self.objects[path])

    def copy(self, source_file_names, destination_file_names):
        for source, destination in zip(source_file_names, destination_file_names, strict=True):
            self.objects[destination] = self.objects[source]

    def rename(self, source_file_names, destination_file_names):
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)

    def exists(self, path):
        return path in self.objects

    def size(self, path):
        return len(self.objects[path])

    def last_updated(self, path):
        return 0.0

    def metadata(self, path):
        return FileMetadata(path, self.size(path), 0.0)

    def delete(self, paths):
        for path in paths:
            if path not in self.objects:
                raise BeamIOError("Delete operation failed", {path: "no such object"})
            del self.objects[path]
