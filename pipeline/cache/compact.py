"""Compacting a journal: many short segments, as workers send them, become few long ones of the same lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apache_beam.io.filesystems import FileSystems

from pipeline.cache.contents import Contents, Stored
from transforms.journal.segments import segment_name
from transforms.storage.address import is_remote
from transforms.storage.files import join, open_seekable, replacing

SEGMENT_BYTES = 256 << 20
"""A segment is made no longer than this; one that is half as long is left as it is."""

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Compacted:
    """The segments of a step before and after."""

    step: str
    before: int
    after: int


def compact(contents: Contents, limit: int = SEGMENT_BYTES) -> list[Compacted]:
    """Make one segment of each row of short ones, with all their lines in order; of each step that this changed.

    Segments are never written to again, and a journal that reads looks again where one is gone: runs may be at work on
    a remote root meanwhile. Killed at any moment, this leaves lines twice, which change nothing.

    Raises:
        ValueError: the root is a local folder, whose readers keep its files in mind.
    """
    root = contents.root
    if not is_remote(root):
        raise ValueError(f"{root!r} is a folder of this machine: cache prune makes one segment of those of a step")
    done = []
    for step, segments in contents.segments.items():
        rows = list(_rows(segments, limit))
        for row in rows:
            if len(row) > 1:
                _merge(root, row)
        if len(rows) < len(segments):
            done.append(Compacted(step, len(segments), len(rows)))
    return done


def _rows(segments: Sequence[Stored], limit: int) -> Iterator[list[Stored]]:
    """Segments that follow each other, and are short together."""
    row: list[Stored] = []
    for segment in segments:
        if segment.size_bytes >= limit // 2:
            yield from filter(None, (row, [segment]))
            row = []
            continue
        if row and sum(each.size_bytes for each in row) + segment.size_bytes > limit:
            yield row
            row = []
        row.append(segment)
    if row:
        yield row


def _merge(root: str, segments: Sequence[Stored]) -> None:
    folder, _, name = segments[0].path.rpartition("/")
    # It begins when the first began, so that of several records of a key the first stays the first.
    with replacing(join(root, folder, segment_name(name.removesuffix(".jsonl").split("-")[0]))) as whole:
        for segment in segments:
            rest = b""  # in the end a torn line, which must not spoil the next segment's first
            with open_seekable(join(root, segment.path)) as part:
                while block := part.read(_BLOCK):
                    lines, newline, rest = (rest + block).rpartition(b"\n")
                    whole.write(lines + newline)
    FileSystems.delete([join(root, segment.path) for segment in segments])
