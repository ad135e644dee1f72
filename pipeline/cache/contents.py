"""What lies in a cache: its files by what they are for, and the records of its journal."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
from apache_beam.io.filesystems import FileSystems

from schemas.check import read_json
from transforms.extract.decode import Decoded
from transforms.extract.recognize import Lines, Segments
from transforms.group.frame_hashes import FrameHashes
from transforms.journal.record import Record
from transforms.journal.segments import Damage, Line, scan
from transforms.mine.embed import QueryVectors, StoredVectors
from transforms.protocols.caption import Caption
from transforms.protocols.teacher import TeacherReply
from transforms.storage.address import is_remote
from transforms.storage.cache import CachedFile
from transforms.storage.cache_lock import LOCK
from transforms.storage.files import join, open_seekable
from transforms.storage.shared_files import OUTPUTS

# The type of each step's values.
KINDS: Mapping[str, Any] = MappingProxyType(
    {
        "media": str,
        "decode": Decoded,
        "asr": Segments,
        "ocr": Lines,
        "caption": Caption,
        "frame_hashes": FrameHashes,
        "write": TeacherReply,
        "embed_video": StoredVectors,
        "embed_query": QueryVectors,
        "judge": TeacherReply,
        "panel": TeacherReply,
        "negatives": TeacherReply,
        "verify": TeacherReply,
        "necessity": TeacherReply,
    }
)

_SEGMENT = re.compile(r"journal/([^/]+)/[^/]+\.jsonl")
_CACHED = re.compile(r"frames/\w+/\w+\.parquet|audio/\w+/\w+\.flac|vectors/\w+/\w+\.npz")
_PACK = re.compile(r"packs/.+")
_LISTING = re.compile(r"inputs/[^/]+\.jsonl")
_OUTPUT = re.compile(rf"{OUTPUTS}/[^/]+\.json")  # small, and told to nobody
_LEFTOVER = re.compile(r"(journal|frames|audio|vectors|packs|inputs)/.+\.[0-9a-f]{32}\.tmp")


class NotACache(ValueError):
    """A folder that holds nothing of a cache; one line that says what to name instead."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A file of a cache: its path below the root, its size, and when it was written (Unix time, 0 if unknown)."""

    path: str
    size_bytes: int
    written_s: float


@dataclass(frozen=True)
class Contents:
    """The files of a cache, in the order of their names.

    ``segments`` are the journal's, by step; ``cached`` frames, sound and vectors, by key; ``packs`` those of whole
    corpora, made from these; ``listings`` the inputs of runs; ``leftovers`` temporary files that nobody renamed (yet);
    ``strange`` what is none of ours.
    """

    root: str
    segments: dict[str, list[Stored]] = field(default_factory=dict)
    cached: dict[str, Stored] = field(default_factory=dict)
    packs: list[Stored] = field(default_factory=list)
    listings: list[Stored] = field(default_factory=list)
    leftovers: list[Stored] = field(default_factory=list)
    strange: list[Stored] = field(default_factory=list)

    def lines(self, segment: Stored) -> Iterator[Line | Damage]:
        """What a segment holds, in order."""
        with open_seekable(join(self.root, segment.path)) as file:
            yield from scan(file)

    def holds(self, file: CachedFile) -> bool:
        """Whether a file that was published is there, as far as its size tells; what a run asks too."""
        found = self.cached.get(file.key)
        return found is not None and found.size_bytes == file.size_bytes


def require_cache(root: str) -> None:
    """Refuse a folder that is no cache, before anything is written to it.

    Raises:
        NotACache: it holds nothing that a run puts there.
    """
    contents = look_into(root)
    if not (contents.segments or contents.cached or contents.packs or contents.listings or contents.leftovers):
        raise NotACache(
            f"{root!r} is no cache of hardquery: name one with --cache DIR, or with --output OUT the output that it "
            "lies beside"
        )


def look_into(root: str) -> Contents:
    """List a cache; empty where there is none."""
    contents = Contents(root)
    for file in sorted(_files(root), key=lambda file: file.path):
        if segment := _SEGMENT.fullmatch(file.path):
            contents.segments.setdefault(segment[1], []).append(file)
        elif _CACHED.fullmatch(file.path):
            contents.cached[file.path] = file
        elif _LISTING.fullmatch(file.path):
            contents.listings.append(file)
        elif _LEFTOVER.fullmatch(file.path):
            contents.leftovers.append(file)
        elif _PACK.fullmatch(file.path):
            contents.packs.append(file)
        elif file.path != LOCK and not _OUTPUT.fullmatch(file.path):
            contents.strange.append(file)
    return contents


def value_of(step: str, record: Record) -> Any:
    """The value of a record, None where the work failed, or another version of hardquery wrote it in its own way."""
    if record.failed is not None or step not in KINDS:
        return None
    try:
        return read_json(record.value, KINDS[step])
    except msgspec.DecodeError:
        return None


def files_of(value: Any) -> tuple[CachedFile, ...]:
    """The files that a value names: those of decoding and of embedding do."""
    return value.cached_files if isinstance(value, Decoded | StoredVectors) else ()


def step_of(key: str) -> str:
    """The step that makes the file of a key."""
    return "embed_video" if key.startswith("vectors/") else "decode"


def keys_in(line: Line) -> tuple[str, ...]:
    """The keys of files that a line seems to name, whichever version of hardquery wrote it."""
    return tuple(_CACHED.findall(line.data.decode(errors="replace")))


def _files(root: str) -> Iterator[Stored]:
    if is_remote(root):
        base = root.rstrip("/") + "/"
        for found in FileSystems.match([glob.escape(base) + "**"])[0].metadata_list:
            if not found.path.endswith("/"):
                yield Stored(found.path[len(base) :], found.size_in_bytes, found.last_updated_in_seconds)
        return
    for folder, _, names in os.walk(root, followlinks=True):
        for name in names:
            path = os.path.join(folder, name)
            try:
                stat = os.stat(path)
            except FileNotFoundError:  # renamed or removed by a run
                continue
            yield Stored(os.path.relpath(path, root).replace(os.sep, "/"), stat.st_size, stat.st_mtime)
