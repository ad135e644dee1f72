"""Packs: the vectors of all documents of a corpus in one file, sorted by id, memory-mapped by every worker.

A corpus of single vectors is kept as float32 ``vectors`` [documents, dims]. Where any document has several, all are
kept as int8 codes (see ``tokens``), and beside them those of each level pooled to four, for the first of two stages.
"""

from __future__ import annotations

import tempfile
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from transforms.protocols.embed import Embedding
from transforms.search.array_file import ArrayWriter, NotArrays, open_arrays, require_whole
from transforms.search.pooling import pooled_in_order
from transforms.search.tokens import Tokens, encoded, scales_of
from transforms.storage.local_file import written_whole

# Raise it when the same vectors make another pack than before.
FORMAT = 2
POOLED = 4  # vectors a level for the first stage; with the best 2000, 95 % of the top 100 of all (synthetic videos)
_READ = 1 << 16  # vectors at a time, where single ones become codes after all


class NotAPack(ValueError):
    """A file that is no pack, or not a whole one; one line that names it."""


@dataclass(frozen=True, eq=False)
class Pack:
    """An opened pack: ``ids`` in order, and the vectors of the document at each place.

    ``space`` is what the writer said of where the vectors come from. ``vectors`` is None where documents have several;
    ``pooled`` where they have one each.
    """

    ids: tuple[str, ...]
    space: str
    dims: int
    vectors: NDArray[np.float32] | None
    coded: Tokens | None
    pooled: Tokens | None

    def __len__(self) -> int:
        return len(self.ids)

    def row_of(self, video_id: str) -> int | None:
        """The place of a document, None where the pack has none of this id."""
        row = bisect_left(self.ids, video_id)
        return row if row < len(self.ids) and self.ids[row] == video_id else None

    @cached_property
    def tokens(self) -> Tokens:
        """All documents as late interaction reads them."""
        if self.coded is not None:
            return self.coded
        assert self.vectors is not None, "a pack has vectors or codes"
        codes = encoded(self.vectors)
        return Tokens(codes, scales_of(codes), np.arange(len(codes) + 1), levels=1)


def write_pack(path: str, entries: Iterable[tuple[str, Embedding]], space: str = "") -> None:
    """Write a pack to a file of this machine, whole or not at all; the same bytes for the same entries.

    ``entries`` come in ascending order of their ids and are held one at a time. ``space`` names what made the vectors,
    such as an engine's fingerprint, for whoever has queries to compare theirs with.

    Raises:
        ValueError: ids are not in order, or twice the same, or vectors have other dimensions or levels than the first,
            or are not of length 1; one line that names the document.
    """
    with written_whole(path) as stream, tempfile.TemporaryFile() as single, tempfile.TemporaryFile() as pooled:
        _Writing(stream, single, pooled).write(entries, space)


class _Writing:
    """A pack under way. Single vectors wait in a file of their own until it is known that all are single."""

    def __init__(self, stream: BinaryIO, single: BinaryIO, pooled: BinaryIO) -> None:
        self.writer, self.stream = ArrayWriter(stream), stream
        self.single, self.pooled = single, pooled
        self.ids: list[str] = []
        self.dims, self.levels = 0, 1
        self.coded = False
        self.scales: list[NDArray[np.float32]] = []
        self.lengths: list[int] = []
        self.pooled_lengths: list[int] = []

    def write(self, entries: Iterable[tuple[str, Embedding]], space: str) -> None:
        for video_id, embedding in entries:
            self._check(video_id, embedding)
            self.ids.append(video_id)
            if not self.coded and len(embedding.vectors) > 1:
                self._turn_to_codes()
            if self.coded:
                self._add_tokens(embedding.vectors, embedding.levels)
            else:
                self.single.write(embedding.vectors.astype("<f4").tobytes())
        if self.coded:
            self._finish_codes()
        else:
            self.writer.begin("vectors", np.float32, self.dims)
            for vectors in self._waiting():
                self.writer.append(vectors)
        self.writer.add("ids", np.frombuffer("\n".join(self.ids).encode(), np.uint8))
        self.writer.finish({"documents": len(self.ids), "space": space, "dims": self.dims, "levels": self.levels})

    def _check(self, video_id: str, embedding: Embedding) -> None:
        if not self.ids:
            self.dims, self.levels = embedding.dims, len(embedding.levels)
        elif video_id <= self.ids[-1]:
            raise ValueError(f"{video_id!r} comes after {self.ids[-1]!r}: ids must ascend")
        if "\n" in video_id or not video_id:
            raise ValueError(f"{video_id!r} is no id: it is empty or has a line break")
        if (embedding.dims, len(embedding.levels)) != (self.dims, self.levels):
            ours = f"{embedding.dims} dimensions and {len(embedding.levels)} levels"
            raise ValueError(f"{video_id!r} has {ours}, {self.ids[0]!r} {self.dims} and {self.levels}")
        if not (np.abs(np.linalg.norm(embedding.vectors.astype(np.float64), axis=1) - 1) < 1e-3).all():
            raise ValueError(f"{video_id!r} has a vector whose length is not 1")

    def _waiting(self) -> Iterable[NDArray[np.float32]]:
        self.single.seek(0)
        while block := self.single.read(_READ * self.dims * 4):
            yield np.frombuffer(block, "<f4").reshape(-1, self.dims)

    def _turn_to_codes(self) -> None:
        self.coded = True
        self.writer.begin("codes", np.int8, self.dims)
        for vectors in self._waiting():
            for row in range(len(vectors)):
                self._add_tokens(vectors[row : row + 1], (1,))

    def _add_tokens(self, vectors: NDArray[np.float32], levels: tuple[int, ...]) -> None:
        codes = encoded(vectors)
        self.writer.append(codes)
        self.scales.append(scales_of(codes))
        self.lengths += levels
        for level in np.split(vectors, np.cumsum(levels)[:-1]):
            means = encoded(pooled_in_order(level, POOLED))
            self.pooled.write(means.tobytes())
            self.pooled_lengths.append(len(means))

    def _finish_codes(self) -> None:
        writer = self.writer
        writer.add("scales", np.concatenate(self.scales))
        writer.add("starts", _starts(self.lengths))
        writer.begin("pooled_codes", np.int8, self.dims)
        scales = []
        self.pooled.seek(0)
        while block := self.pooled.read(_READ * self.dims):
            codes = np.frombuffer(block, np.int8).reshape(-1, self.dims)
            writer.append(codes)
            scales.append(scales_of(codes))
        writer.add("pooled_scales", np.concatenate(scales))
        writer.add("pooled_starts", _starts(self.pooled_lengths))


def _starts(lengths: list[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def open_pack(path: str) -> Pack:
    """A pack of this machine; its vectors stay on the disk until they are looked at, and are shared by processes.

    Raises:
        NotAPack: the file is no pack, or not whole.
        FileNotFoundError: there is none.
    """
    try:
        facts, arrays = open_arrays(path)
        ids = tuple(arrays["ids"].tobytes().decode().split("\n")) if len(arrays["ids"]) else ()
        levels, vectors = facts["levels"], arrays.get("vectors")
        coded = pooled = None
        if vectors is None:
            coded = Tokens(arrays["codes"], arrays["scales"], arrays["starts"], levels)
            pooled = Tokens(arrays["pooled_codes"], arrays["pooled_scales"], arrays["pooled_starts"], levels)
        pack = Pack(ids, facts["space"], facts["dims"], vectors, coded, pooled)
        if any(len(ids) != len(part) for part in (vectors, coded, pooled) if part is not None):
            raise ValueError("there are more or fewer ids than documents")
        return pack
    except (NotArrays, ValueError, LookupError, TypeError) as error:
        raise NotAPack(f"{path} is no pack: {error}") from error


def check_pack(stream: BinaryIO, name: str) -> None:
    """Read a pack from its first byte to its last, which opening it does not.

    Raises:
        NotAPack: it is none, or a byte of it is not as it was written; with its ``name``.
    """
    try:
        require_whole(stream)
    except NotArrays as error:
        raise NotAPack(f"{name} is no pack: {error}") from error
