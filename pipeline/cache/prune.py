"""Pruning a cache: what no run reads any more is removed, in an order that a kill at any moment leaves sound."""

from __future__ import annotations

import os
import time
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from apache_beam.io.filesystems import FileSystems
from numpy.typing import NDArray

from pipeline.cache.contents import Contents, Stored, files_of, keys_in, step_of, value_of
from transforms.journal.record import record_of
from transforms.journal.segments import Damage, Line, line_of, segment_name
from transforms.storage.address import is_remote
from transforms.storage.files import join, replacing

DAY_S = 86_400.0

# What a line of a segment is to a run.
_VALUE, _FOREIGN, _FAILED, _LOST, _OLD = range(5)


@dataclass(frozen=True, slots=True)
class Compaction:
    """Segments of one step to be made one, of the lines that are kept: a flag for each, in order.

    ``dropped`` counts the others by reason.
    """

    step: str
    segments: tuple[Stored, ...]
    kept: NDArray[np.bool_]
    size_before: int
    size_after: int
    dropped: dict[str, int]


@dataclass
class Pruning:
    """What goes. ``removed`` are files by the reason why they are of no use."""

    root: str
    compactions: list[Compaction] = field(default_factory=list)
    removed: dict[str, list[Stored]] = field(default_factory=dict)

    @property
    def freed_bytes(self) -> int:
        """What the cache shrinks by."""
        files = sum(file.size_bytes for files in self.removed.values() for file in files)
        return files + sum(compaction.size_before - compaction.size_after for compaction in self.compactions)


def plan(contents: Contents, step: str | None = None, older_than_s: float | None = None) -> Pruning:
    """What pruning would remove: all that no run reads any more, and results made more than ``older_than_s`` ago.

    With ``step``, only what is of that step; frames and sound are of "decode", vectors and what is packed of them of
    "embed_video". Of a remote cache, which knows no locks,
    only files written more than a day ago are touched.
    """
    now = time.time()
    pruning = Pruning(contents.root)
    before_s = now - older_than_s if older_than_s is not None else float("-inf")
    settled_s = now - DAY_S if is_remote(contents.root) else None
    named: set[str] = set()
    for name, segments in contents.segments.items():
        if step in (None, name):
            # In order and without gaps: the first record of a key stays the first.
            settled = list(takewhile(lambda segment: _is_settled(segment, settled_s), segments))
            compaction = _compaction(contents, name, settled, before_s, named)
            if len(settled) > 1 or compaction.dropped:
                pruning.compactions.append(compaction)
            _take_names(contents, name, segments[len(settled) :], named)
    orphans = [file for key, file in contents.cached.items() if key not in named]
    pruning.removed["that no record names"] = [file for file in orphans if step in (None, step_of(file.path))]
    if step in (None, "embed_video"):
        # They are made from the vectors in no time; a run that is about to begin makes its own.
        packed = [file for file in contents.packs if file.written_s < now - DAY_S]
        pruning.removed["that earlier runs packed of vectors"] = packed
    if step is None:
        # A run that is about to begin has written its own before it takes its share of the cache.
        listings = [file for file in contents.listings if file.written_s < now - DAY_S]
        pruning.removed["that list the inputs of earlier runs"] = listings
    pruning.removed["that were not finished"] = [
        file for file in contents.leftovers if step is None or file.path.startswith(f"journal/{step}/")
    ]
    for reason, files in list(pruning.removed.items()):
        pruning.removed[reason] = [file for file in files if _is_settled(file, settled_s)]
    return pruning


def carry_out(pruning: Pruning, contents: Contents) -> None:
    """Remove it. Killed at any moment, this leaves records twice or files that no record names, for the next time."""
    for compaction in pruning.compactions:
        _compact(compaction, contents)
    for files in pruning.removed.values():
        _remove(pruning.root, files)


def _is_settled(file: Stored, before_s: float | None) -> bool:
    """Whether no run can be at work on a file: it is of a cache that can be locked, or was written before a moment."""
    return before_s is None or 0 < file.written_s < before_s


def _compaction(
    contents: Contents, step: str, segments: Sequence[Stored], before_s: float, named: set[str]
) -> Compaction:
    """Which lines of segments stay; the files that these name are added to ``named``."""
    keys, roles, sizes = bytearray(), array("B"), array("Q")
    files: dict[int, tuple[str, ...]] = {}
    damaged = 0
    for segment in segments:
        for line in contents.lines(segment):
            if isinstance(line, Damage):
                damaged += 1
                continue
            role, names = _role(contents, step, line, before_s)
            if names:
                files[len(roles)] = names
            keys += line.key.encode()
            roles.append(role)
            sizes.append(line.length)
    kept, dropped = _chosen(np.frombuffer(keys, "S32"), np.frombuffer(roles, np.uint8))
    named.update(key for number, keys_ in files.items() if kept[number] for key in keys_)
    return Compaction(
        step,
        tuple(segments),
        kept,
        size_before=sum(segment.size_bytes for segment in segments),
        size_after=int(np.frombuffer(sizes, np.uint64)[kept].sum()),
        dropped=dict(+Counter({"damaged": damaged, **dropped})),
    )


def _role(contents: Contents, step: str, line: Line, before_s: float) -> tuple[int, tuple[str, ...]]:
    """What a line is to a run, and the keys of the files that it names."""
    record = record_of(line.data)
    if record is None:
        return _FOREIGN, keys_in(line)
    if record.at < before_s:
        return _OLD, ()
    if record.failed is not None:
        return _FAILED, ()
    value = value_of(step, record)
    if value is None:
        return _FOREIGN, keys_in(line)
    files = files_of(value)
    role = _VALUE if all(contents.holds(file) for file in files) else _LOST
    return role, tuple(file.key for file in files)


def _chosen(keys: NDArray[np.bytes_], roles: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which records stay: of each key the first value, else the last failure, as a run would choose; and why not.

    Of those that only another version of hardquery can read, the first of each key stays as well.
    """
    kept = np.zeros(len(keys), bool)
    for role in (_VALUE, _FOREIGN):
        numbers = np.flatnonzero(roles == role)
        kept[numbers[np.unique(keys[numbers], return_index=True)[1]]] = True
    failed = np.flatnonzero(roles == _FAILED)
    failed = failed[~np.isin(keys[failed], keys[roles == _VALUE])][::-1]
    kept[failed[np.unique(keys[failed], return_index=True)[1]]] = True
    return kept, {
        "repeated": int((~kept & (roles <= _FOREIGN)).sum()),
        "failures tried again since": int((~kept & (roles == _FAILED)).sum()),
        "without their files": int((roles == _LOST).sum()),
        "too old": int((roles == _OLD).sum()),
    }


def _take_names(contents: Contents, step: str, segments: Iterable[Stored], named: set[str]) -> None:
    """Add the files that the records of segments name."""
    for segment in segments:
        for line in contents.lines(segment):
            if isinstance(line, Line):
                named.update(_role(contents, step, line, float("-inf"))[1])


def _compact(compaction: Compaction, contents: Contents) -> None:
    """Write the lines that are kept as one segment, in the place of the first, and only then remove the segments."""
    root, first = contents.root, compaction.segments[0].path
    if compaction.kept.any():
        folder, _, name = first.rpartition("/")
        # It begins when the first began, so that it comes before all that are left as they are.
        path = join(root, folder, segment_name(name.split("-")[0]))
        number = 0
        with replacing(path) as copy:
            for segment in compaction.segments:
                for line in contents.lines(segment):
                    if isinstance(line, Line):
                        if compaction.kept[number]:
                            copy.write(line_of(line.key, line.subject, line.data))
                        number += 1
        if not is_remote(root):
            _bring_to_disk(path)
    _remove(root, compaction.segments)


def _bring_to_disk(path: str) -> None:
    """A power cut must not take the new file and leave the old ones removed."""
    for place in (path, os.path.dirname(path)):
        opened = os.open(place, os.O_RDONLY)
        os.fsync(opened)
        os.close(opened)


def _remove(root: str, files: Sequence[Stored]) -> None:
    if is_remote(root):
        if files:
            FileSystems.delete([join(root, file.path) for file in files])
        return
    for file in files:
        os.unlink(join(root, file.path))
