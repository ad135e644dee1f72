"""Files of marks: what people said of an output, one line each, only ever added to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import jsonlines
import msgspec

from schemas.check import read_json
from schemas.people.mark import WRONG, Mark
from transforms.storage.files import digest, exists, read_bytes

LABELS = "labels.jsonl"  # in the output folder: what is wrong with it, for the next run
AUDIT_FOLDER = "audit/"  # in the output folder: pairs drawn for blind labelling, and their answers
SAMPLE_FILE, ANSWERS_FILE = f"{AUDIT_FOLDER}sample.jsonl", f"{AUDIT_FOLDER}answers.jsonl"


@dataclass(frozen=True, slots=True)
class LabelsUsed:
    """The file of marks that a run honoured: its path, its hash, and how many marks of each kind counted."""

    path: str
    sha256: str
    marks: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Labels:
    """What people say is wrong, by query id and video id, and what a manifest says of where that was read."""

    used: LabelsUsed
    by_query: Mapping[str, Mapping[str, Mark]]


class UnreadableMarks(ValueError):
    """A file of marks that cannot be read; one line that names the file and the line."""


def read_marks(path: str) -> dict[tuple[str, str], Mark]:
    """What counts of a file of marks, by query id and video id; nothing where there is no such file.

    Raises:
        UnreadableMarks: a line is no mark.
    """
    if not exists(path):
        return {}
    marks: dict[tuple[str, str], Mark] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            mark = read_json(line, Mark)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnreadableMarks(f"{path}, line {number}: {error}") from error
        marks.pop(mark.about, None)  # so that the order is that of what counts
        marks[mark.about] = mark
    return {about: mark for about, mark in marks.items() if mark.verdict}


def read_labels(path: str) -> Labels | None:
    """What a file of marks says is wrong; None where there is no file, or it says nothing that counts.

    Raises:
        UnreadableMarks: a line is no mark.
    """
    wrong = [mark for mark in read_marks(path).values() if mark.verdict in WRONG]
    if not wrong:
        return None
    by_query: dict[str, dict[str, Mark]] = {}
    for mark in wrong:
        by_query.setdefault(mark.query_id, {})[mark.video_id] = mark
    counts = Counter(mark.verdict for mark in wrong)
    used = LabelsUsed(path, digest(path)[0], {kind: counts[kind] for kind in WRONG if counts[kind]})
    return Labels(used, by_query)


def add_mark(path: str, mark: Mark) -> None:
    """Add a line to a file of marks on this machine; it is on the disk when this returns.

    Raises:
        OSError: the file cannot be written.
    """
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "a+b") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a line that was cut off stays one line
                file.write(b"\n")
        jsonlines.Writer(file, dumps=msgspec.json.encode).write(mark)
        file.flush()
        os.fsync(file.fileno())
