"""The TREC files of an output: runs of any size, read some queries at a time, and its qrels."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from pipeline.outputs.errors import UnreadableOutput, reading
from transforms.storage.files import join, open_seekable, read_bytes
from transforms.storage.trec import read_qrels

RUN, QRELS = "run.trec", "qrels.trec"

Placed = tuple[str, int, float]  # video id, rank, score

_RUN = {"query": pa.string(), "q0": None, "video": pa.string(), "rank": pa.int64(), "score": pa.string(), "tag": None}
_QRELS = {"query": pa.string(), "q0": None, "video": pa.string(), "rel": pa.int64()}
_KEPT = pa.schema([(name, kind) for name, kind in _RUN.items() if kind])
_A_BLOCK = 1 << 22
_OTHER_SPACE = re.compile(r"[^\S \n]")


@dataclass(frozen=True, slots=True)
class Block:
    """Lines of whole queries, by columns; ``starts`` is where each query's lines begin, and last where they all end.

    ``scores`` are the numbers that ``said`` is, the text of each line's score.
    """

    queries: list[str]
    starts: list[int]
    videos: pa.Array
    ranks: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    said: pa.Array

    def placed(self, number: int) -> list[Placed]:
        """The candidates of one of the queries, in file order."""
        start, end = self.starts[number : number + 2]
        videos = self.videos[start:end].to_pylist()
        return list(zip(videos, self.ranks[start:end].tolist(), self.scores[start:end].tolist(), strict=True))


def run_files(runs: Iterable[str]) -> dict[str, str | None]:
    """The run files of an output by name: the one that a reranker is given, and those of several first stages."""
    names = list(runs)
    return {RUN: None, **({f"run.{name}.trec": name for name in names} if len(names) > 1 else {})}


def runs_of(recipe: Mapping[str, Any]) -> list[str]:
    """The names of a recipe's first stages."""
    return list(recipe.get("mine", {}).get("first_stages", ()))


def rankings(output: str, name: str = RUN) -> Iterator[tuple[str, list[Placed]]]:
    """(query id, its candidates in file order), some queries in memory at a time; raises what ``blocks`` raises."""
    for block in blocks(output, name):
        ranks, scores = block.ranks.tolist(), block.scores.tolist()
        placed = list(zip(block.videos.to_pylist(), ranks, scores, strict=True))
        for query_id, (start, end) in zip(block.queries, pairwise(block.starts), strict=True):
            yield query_id, placed[start:end]


def blocks(output: str, name: str = RUN, size: int = _A_BLOCK) -> Iterator[Block]:
    """A run, some MB in memory at a time; lines of a query that stand together are in one block.

    Raises:
        UnreadableOutput: there is no such run, or a line is not ``qid Q0 docid rank score tag``.
    """
    with reading(output, name), open_seekable(join(output, name)) as stream:
        left, lines = b"", 0
        while True:
            read = stream.read(size)
            data = left + read
            whole = _whole_queries(data) if read else len(data)
            data, left = data[:whole], data[whole:]
            if data:
                table, scores, reason = _parse(data, lines + 1)
                if len(table):
                    yield _block(table, scores)
                if reason:
                    raise UnreadableOutput(output, name, reason)
                lines += len(table)
            if not read:
                return


def _block(table: pa.Table, scores: npt.NDArray[np.float64]) -> Block:
    query, video, rank, said = (table.column(name).combine_chunks() for name in _KEPT.names)
    changes = pc.not_equal(query[1:], query[:-1]).to_numpy(zero_copy_only=False)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    queries = query.take(pa.array(starts)).to_pylist()
    return Block(queries, [*starts.tolist(), len(table)], video, rank.to_numpy(), scores, said)


def _whole_queries(data: bytes) -> int:
    """How many bytes are before the lines of the last query with a whole line, which may go on."""
    start = data.rfind(b"\n", 0, data.rfind(b"\n")) + 1 if b"\n" in data else 0
    last = _query_at(data, start)
    while start:
        before = data.rfind(b"\n", 0, start - 1) + 1
        if _query_at(data, before) != last:
            break
        start = before
    return start


def _query_at(data: bytes, start: int) -> bytes:
    """The first word of the line that starts here."""
    end = data.find(b"\n", start)
    return b"".join(data[start : end if end >= 0 else None].split(None, 1)[:1])


def qrels_of(output: str) -> dict[str, dict[str, int]]:
    """See ``read_qrels``, which raises what is raised here."""
    path = join(output, QRELS)
    table = _plain_columns(read_bytes(path), _QRELS)
    if table is None:
        return read_qrels(path)
    qrels: dict[str, dict[str, int]] = {}
    for query_id, video_id, relevance in zip(*(column.to_pylist() for column in table.columns), strict=True):
        qrels.setdefault(query_id, {})[video_id] = relevance
    listed_once = sum(map(len, qrels.values())) == len(table)
    return qrels if listed_once else read_qrels(path)


def _parse(data: bytes, number: int) -> tuple[pa.Table, npt.NDArray[np.float64], str]:
    """Lines, of which the first has this number, their scores, and what is wrong with the line after them, if any."""
    table = _plain_columns(data, _RUN)
    if table is not None:
        with suppress(pa.ArrowInvalid):
            return table, pc.cast(table["score"], pa.float64()).to_numpy(), ""
    rows: list[tuple[str, str, int, str]] = []
    scores: list[float] = []
    reason = ""
    for at, line in enumerate(io.BytesIO(data), start=number):
        try:
            query_id, _, video_id, rank, score, _ = line.decode().split()
            row, value = (query_id, video_id, int(np.int64(int(rank))), score), float(score)
        except (ValueError, OverflowError):
            reason = f"line {at}: must be 'qid Q0 docid rank score tag', got {line!r}"
            break
        rows.append(row)
        scores.append(value)
    table = pa.Table.from_pylist([dict(zip(_KEPT.names, row, strict=True)) for row in rows], _KEPT)
    return table, np.array(scores, np.float64), reason


def _plain_columns(data: bytes, columns: Mapping[str, pa.DataType | None]) -> pa.Table | None:
    """Those columns of lines that have a type, where Arrow reads them as Python does; else None."""
    if not _is_plain(data):
        return None
    kinds = {name: kind for name, kind in columns.items() if kind}
    try:
        table = csv.read_csv(
            io.BytesIO(data),
            csv.ReadOptions(use_threads=False, block_size=max(_A_BLOCK, len(data)), column_names=list(columns)),
            csv.ParseOptions(delimiter=" ", quote_char=False, ignore_empty_lines=False),
            csv.ConvertOptions(column_types=kinds, include_columns=list(kinds), null_values=[]),
        )
    except pa.ArrowInvalid:
        return None
    return None if any(column.null_count for column in table.columns) else table


def _is_plain(data: bytes) -> bool:
    """Whether words are parted by one space and lines by one newline, and no number is one to Arrow alone."""
    if not data or data.startswith(codecs.BOM_UTF8):
        return False
    if data.isascii():
        spaced = len(data.translate(None, b"\t\r\v\f\x1c\x1d\x1e\x1f")) == len(data)
    else:
        spaced = not _OTHER_SPACE.search(data.decode("utf-8", "replace"))
    blank = np.frombuffer(data, np.uint8) <= ord(" ")
    doubled = bool(blank[0]) or bool(np.any(blank[1:] & blank[:-1]))
    return spaced and not doubled and not any(sign in data and b" 0" + sign in data for sign in (b"x", b"X"))
