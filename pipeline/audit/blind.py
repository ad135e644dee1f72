"""Blind labelling: pairs of a training set drawn for people, stratum by stratum, and the answers that they give."""

from __future__ import annotations

import heapq
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import jsonlines
import msgspec

from pipeline.outputs.marks import ANSWERS_FILE, SAMPLE_FILE, read_marks
from pipeline.outputs.tables import Row, Tables
from schemas.check import read_json
from schemas.example import POSITIVES
from schemas.fingerprint import unit_interval
from schemas.query import Label
from transforms.storage.files import exists, join, read_bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A pair that people are asked about: a line of the sample, and all that they may know of it."""

    query_id: str
    video_id: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A pair that was drawn, with what people do not see: it is of ``of`` pairs of its ``cell``, which is its stratum,
    and for a negative the first stage that has it first where there are several. ``judged`` is the judge's label.
    """

    query_id: str
    video_id: str
    cell: str
    of: int
    judged: Label


class NoSample(ValueError):
    """An output without pairs drawn for labelling, or with other ones; one line that names the fix."""


def draw(tables: Tables, count: int, seed: int) -> list[Drawn]:
    """About ``count`` kept pairs, as many of each cell as of another where it has so many, in an order of chance.

    The same pairs whatever the order of the rows, and with a greater ``count`` the same and others.
    """
    cells: dict[str, list[tuple[float, str, str, Label]]] = defaultdict(list)
    sizes: dict[str, int] = defaultdict(int)
    for row in _kept(tables):
        cell = _cell(row)
        sizes[cell] += 1
        chance = unit_interval(f"audit:{seed}:{row['query_id']}:{row['video_id']}")
        kept = (-chance, row["query_id"], row["video_id"], row["label"])
        if len(cells[cell]) < count:
            heapq.heappush(cells[cell], kept)
        else:
            heapq.heappushpop(cells[cell], kept)
    drawn = []
    left, waiting = count, sorted(cells, key=lambda cell: (len(cells[cell]), cell))
    for number, cell in enumerate(waiting):  # the smallest first: what it cannot give, the others do
        share = min(len(cells[cell]), left // (len(waiting) - number))
        left -= share
        drawn += [(pair, cell) for pair in sorted(cells[cell], reverse=True)[:share]]
    drawn.sort(key=lambda one: unit_interval(f"order:{seed}:{one[0][1]}:{one[0][2]}"))
    return [Drawn(query_id, video_id, cell, sizes[cell], label) for (_, query_id, video_id, label), cell in drawn]


def joined(tables: Tables, asked: list[Asked]) -> tuple[list[Drawn], int]:
    """What the output says of the pairs that people were asked about, and how many of them it no longer keeps."""
    found: dict[Asked, tuple[str, Label]] = {}
    sizes: dict[str, int] = defaultdict(int)
    wanted = set(asked)
    for row in _kept(tables):
        cell = _cell(row)
        sizes[cell] += 1
        one = Asked(row["query_id"], row["video_id"])
        if one in wanted:
            found[one] = cell, row["label"]
    there = ((one, *found[one]) for one in asked if one in found)
    drawn = [Drawn(one.query_id, one.video_id, cell, sizes[cell], label) for one, cell, label in there]
    return drawn, len(asked) - len(drawn)


def _kept(tables: Tables) -> Iterator[Row]:
    rows = tables.rows("judgements", ["query_id", "video_id", "stratum", "label", "kept", "runs"])
    return (row for row in rows if row["kept"])


def _cell(row: Row) -> str:
    stratum: str = row["stratum"]
    runs = row["runs"] or []
    if stratum in POSITIVES or len(runs) < 2:
        return stratum
    return f"{stratum} by {min(runs, key=lambda run: (run['rank'], run['run']))['run']}"


def write_sample(output: str, drawn: list[Drawn]) -> str:
    """Put a sample into the output, ids alone: who labels may read the file, and learn no label; returns its path.

    Raises:
        NoSample: there is one already, which people may have begun to answer.
    """
    path = join(output, SAMPLE_FILE)
    if exists(path) and exists(join(output, ANSWERS_FILE)):
        raise NoSample(f"{path} has answers in {ANSWERS_FILE}; move both away to draw anew")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        jsonlines.Writer(file, dumps=msgspec.json.encode).write_all(
            msgspec.to_builtins(Asked(one.query_id, one.video_id)) for one in drawn
        )
    return path


def read_sample(output: str) -> list[Asked]:
    """The pairs that were drawn, in the order in which they are asked.

    Raises:
        NoSample: there are none, or a line is none.
    """
    path = join(output, SAMPLE_FILE)
    if not exists(path):
        raise NoSample(f"{output} has no sample to label: draw one with `hardquery audit sample {output}`")
    try:
        return [read_json(line, Asked) for line in read_bytes(path).splitlines()]
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NoSample(f"{path}: {error}") from error


def read_answers(output: str) -> dict[tuple[str, str], str]:
    """What people answered, "yes", "no" or "unsure", by query id and video id."""
    return {about: mark.verdict for about, mark in read_marks(join(output, ANSWERS_FILE)).items()}
