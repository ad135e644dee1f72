"""The tables of a finished output folder, read where they lie: on a disk or on any store that pyarrow knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from schemas.check import read_json
from schemas.example import Split
from schemas.tables import SCHEMA_VERSION
from trainer.config.errors import TrainingError

MANIFEST = "manifest.json"

_FILES_OPEN = 64
_GROUPS_KEPT = 16  # of 8 videos, about 5 MB each


class DataError(TrainingError):
    """Training data that cannot be used; one line that says what is wrong with it, and where."""


class _File(msgspec.Struct, frozen=True):
    path: str


class _Manifest(msgspec.Struct, frozen=True):
    schema_version: str
    files: list[_File]


class Shards:
    """A finished output folder: ``root`` is a path, or an address such as ``s3://bucket/set``.

    Files are opened when rows are read, and once in each process: a worker is sent the address alone.
    Whatever reads raises DataError where a file is missing or damaged, or of another schema version.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._opened = lru_cache(maxsize=_FILES_OPEN)(self._open)
        self._read = lru_cache(maxsize=_GROUPS_KEPT)(self._read_group)

    def __reduce__(self) -> tuple[type[Shards], tuple[str]]:
        return Shards, (self.root,)

    @property
    def is_remote(self) -> bool:
        """Whether the folder lies on no disk of this machine."""
        return "://" in self.root

    @cached_property
    def manifest_sha256(self) -> str:
        """The hash of the manifest, which holds the hashes of all shards."""
        return hashlib.sha256(self._manifest_bytes()).hexdigest()

    def paths(self, table: str, split: Split | None = None) -> list[str]:
        """The shards of a table, of one split or of all, in order."""
        prefix = f"{table}/{split}-" if split else f"{table}/"
        return sorted(file.path for file in self._manifest.files if file.path.startswith(prefix))

    def rows(self, table: str, split: Split, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of one split of a table, shard by shard."""
        for path in self.paths(table, split):
            yield from self.columns(path, columns).to_pylist()

    def lines(self, path: str) -> list[str]:
        """The lines of a text file of the output; none where the manifest has no such file."""
        if path not in {file.path for file in self._manifest.files}:
            return []
        filesystem, root = self._filesystem
        try:
            with filesystem.open_input_file(f"{root}/{path}") as file:
                return bytes(file.read()).decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.root}/{path} cannot be read: {error}") from error

    def columns(self, path: str, columns: Sequence[str]) -> pa.Table:
        """Some columns of a whole shard."""
        return self._opened(path).read(columns=list(columns), use_threads=False)

    def group_sizes(self, path: str) -> list[int]:
        """The rows of each of a shard's row groups."""
        metadata = self._opened(path).metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def group(self, path: str, number: int, columns: tuple[str, ...]) -> pa.Table:
        """One row group of a shard; those read last are kept."""
        return self._read(path, number, columns)

    def _read_group(self, path: str, number: int, columns: tuple[str, ...]) -> pa.Table:
        return self._opened(path).read_row_group(number, columns=list(columns), use_threads=False)

    def _open(self, path: str) -> pq.ParquetFile:
        filesystem, root = self._filesystem
        try:
            return pq.ParquetFile(filesystem.open_input_file(f"{root}/{path}"), pre_buffer=self.is_remote)
        except (OSError, pa.ArrowInvalid) as error:
            raise DataError(f"{self.root}/{path} cannot be read: {error}") from error

    @cached_property
    def _manifest(self) -> _Manifest:
        try:
            manifest = read_json(self._manifest_bytes(), _Manifest)
        except msgspec.DecodeError as error:
            raise DataError(f"{self.root}/{MANIFEST} is no manifest of hardquery: {error}") from error
        if manifest.schema_version != SCHEMA_VERSION:
            raise DataError(
                f"{self.root} has schema version {manifest.schema_version}; this hardquery reads {SCHEMA_VERSION}"
            )
        return manifest

    def _manifest_bytes(self) -> bytes:
        filesystem, root = self._filesystem
        try:
            with filesystem.open_input_file(f"{root}/{MANIFEST}") as file:
                return bytes(file.read())
        except OSError as error:
            raise DataError(f"{self.root} is not a finished hardquery output: no {MANIFEST} can be read") from error

    @cached_property
    def _filesystem(self) -> tuple[pafs.FileSystem, str]:
        if not self.is_remote:
            return pafs.LocalFileSystem(use_mmap=True), str(Path(self.root).resolve())
        try:
            filesystem, root = pafs.FileSystem.from_uri(self.root)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{self.root} cannot be reached: {error}") from error
        return filesystem, root.rstrip("/")
