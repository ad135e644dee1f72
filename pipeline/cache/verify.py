"""Verification of a cache: whether every recorded result can be read, and every file and pack is as it was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.cache.contents import Contents, Stored, files_of, step_of, value_of
from pipeline.outputs.problem import Problem
from transforms.journal.record import record_of
from transforms.journal.segments import Damage
from transforms.search.pack import NotAPack, check_pack
from transforms.storage.cache import Cache, CachedFile
from transforms.storage.files import digest, join, open_seekable

_DROP = "`hardquery cache prune` drops"
_MADE = {"decode": "decoded", "embed_video": "embedded"}


@dataclass
class Checked:
    """``problems`` are damage, ``notes`` what is in nobody's way; one line each."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    records: int = 0
    files: int = 0


def verify(contents: Contents) -> Checked:
    """Read every record, and hash every file that one names, and every pack."""
    checked = Checked()
    named: dict[str, dict[CachedFile, str]] = {}  # by key: as recorded, and for which video
    for step, segments in contents.segments.items():
        keys: set[bytes] = set()
        found = Counter[str]()
        for segment in segments:
            for line in contents.lines(segment):
                if isinstance(line, Damage):
                    found[line.kind] += 1
                    if line.kind == "corrupt":
                        checked.problems.append(_corrupt(segment, line))
                    continue
                checked.records += 1
                record = record_of(line.data)
                if record is None or (record.failed is None and value_of(step, record) is None):
                    found["foreign"] += 1
                    continue
                found["repeated"] += bytes.fromhex(line.key) in keys
                keys.add(bytes.fromhex(line.key))
                for file in files_of(value_of(step, record)):
                    named.setdefault(file.key, {})[file] = record.subject
        checked.notes += _notes(step, found)
    for key, versions in sorted(named.items()):
        checked.problems += _check_file(contents.root, key, versions)
    for pack in contents.packs:
        checked.problems += _check_pack(contents.root, pack)
    checked.files = len(named) + len(contents.packs)
    orphans = [file for key, file in contents.cached.items() if key not in named]
    checked.notes += _about(orphans, "that no record names", f"{_DROP} them")
    checked.notes += _about(contents.leftovers, "that were not finished", f"{_DROP} them")
    checked.notes += _about(contents.strange, "that are not of hardquery", "they are left alone")
    return checked


def _corrupt(segment: Stored, damage: Damage) -> Problem:
    return Problem(
        segment.path,
        f"{damage.length} damaged bytes at {damage.offset}: the results that they held are computed again at the next "
        f"run; {_DROP} them",
    )


def _check_file(root: str, key: str, versions: dict[CachedFile, str]) -> Iterable[Problem]:
    """A file may have been made more than once; it is sound if it is as any of its records says."""
    file, subject = next(iter(versions.items()))
    again = f"{subject} is {_MADE[step_of(key)]} again at the next run"
    size = Cache(root).size(key)  # now: a run may have made it since the cache was listed
    if size is None:
        yield Problem(key, f"missing: {again}; {_DROP} the record")
    elif size not in {file.size_bytes for file in versions}:
        yield Problem(key, f"{size} bytes, recorded with {file.size_bytes}: {again}; {_DROP} the record")
    elif (sha256 := digest(join(root, key))[0]) not in {file.sha256 for file in versions}:
        yield Problem(
            key,
            f"changed: SHA-256 {sha256[:12]}…, recorded with {file.sha256[:12]}…: runs cannot tell and use it as "
            f"it is; delete the file, and {again}",
        )


def _check_pack(root: str, pack: Stored) -> Iterable[Problem]:
    try:
        with open_seekable(join(root, pack.path)) as stream:
            check_pack(stream, pack.path)
    except NotAPack:
        yield Problem(
            pack.path,
            f"{pack.size_bytes} bytes that are not those that were written: a run that needs it makes it again of the "
            f"vectors of its videos; {_DROP} it after a day",
        )


def _notes(step: str, found: Counter[str]) -> Iterable[str]:
    for kind, meaning in (
        ("torn", f"a record half-written at the end, by a process that was killed or still writes; {_DROP} it"),
        ("repeated", f"a record of a key that has an earlier record; {_DROP} it if no run reads it"),
        ("foreign", "a record of another version of hardquery, which this one cannot read; it is kept"),
    ):
        if found[kind]:
            yield f"journal/{step}, {found[kind]:,} x: {meaning}"


def _about(files: list[Stored], which: str, then: str) -> Iterable[str]:
    if files:
        size = sum(file.size_bytes for file in files)
        yield f"files {which}: {len(files):,}, {size:,} bytes, such as {files[0].path}; {then}"
