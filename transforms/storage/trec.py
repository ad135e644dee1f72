"""Files of the retrieval field: TREC runs, qrels and queries, read strictly and written in order."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, TypeVar, cast

import numpy as np

from schemas.query import Candidate
from transforms.storage.address import is_remote
from transforms.storage.files import exists, stores
from transforms.storage.rows import RowError, holds_rows, read_rows

T = TypeVar("T")

# What others call the columns of queries and qrels in tables and JSON Lines; case and punctuation do not matter.
_QUERIES = {"query_id": "queryid qid id", "query": "query text querytext"}
_QRELS = {
    "query_id": "queryid qid",
    "doc_id": "docid videoid documentid corpusid",
    "relevance": "relevance rel score grade label",
}


class TrecError(ValueError):
    """A file that is not in its format; the message names the file, the line and what is wrong with it."""


def read_run(path: str) -> dict[str, list[Candidate]]:
    """Candidates by query id, best first, from lines ``qid Q0 docid rank score tag`` (``.gz`` is unpacked).

    As in trec_eval the score decides; the stated rank, then the video id, break ties. Ranks are counted anew from 1.

    Raises:
        FileNotFoundError: there is no file.
        TrecError: a line is not of this form, or a video is listed twice for a query.
    """
    rows: dict[str, dict[str, tuple[float, int]]] = {}
    for number, line in _lines(path):
        query_id, _, video_id, rank, score, _ = _columns(path, number, line, "qid Q0 docid rank score tag")
        try:
            value = (-float(score), int(rank))
        except ValueError as error:
            raise TrecError(f"{path}, line {number}: rank and score must be numbers, got {rank!r} {score!r}") from error
        if not math.isfinite(value[0]):
            raise TrecError(f"{path}, line {number}: the score must be finite, got {score!r}")
        _add(rows.setdefault(query_id, {}), video_id, value, f"{path}, line {number}: {video_id!r} of {query_id!r}")
    return {query_id: _ranked(videos) for query_id, videos in rows.items()}


def read_qrels(path: str) -> dict[str, dict[str, int]]:
    """Relevance by query id and video id, from lines ``qid 0 docid rel``; above zero is relevant.

    Tables with a header (.csv, .tsv) and JSON Lines with columns such as ``query_id``, ``doc_id``, ``relevance`` are
    read as well.

    Raises:
        FileNotFoundError: there is no file.
        TrecError: a line is not of this form, or a video is listed twice for a query.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, (query_id, video_id, relevance) in _named(path, _QRELS) or _qrels_columns(path):
        try:
            value = float(relevance)
        except ValueError:
            value = math.nan
        if not value.is_integer():
            raise TrecError(f"{path}, line {number}: rel must be a whole number, got {relevance!r}")
        where = f"{path}, line {number}: {video_id!r} of {query_id!r}"
        _add(qrels.setdefault(query_id, {}), video_id, int(value), where)
    return qrels


def read_queries(path: str) -> dict[str, str]:
    """Query texts by id, from lines ``id<TAB>text``.

    Tables with a header (.csv, .tsv) and JSON Lines with columns such as ``query_id`` and ``query`` are read as well.

    Raises:
        FileNotFoundError: there is no file.
        TrecError: a line is not of this form, or an id is used twice.
    """
    queries: dict[str, str] = {}
    for number, (query_id, text) in _named(path, _QUERIES) or _queries_columns(path):
        if not text.strip() or len(query_id.split()) != 1:
            raise TrecError(f"{path}, line {number}: must be 'id<TAB>text', got {query_id!r} and {text!r}")
        _add(queries, query_id.strip(), text.strip(), f"{path}, line {number}: query id {query_id!r}")
    return queries


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1.

    Raises:
        FileNotFoundError: there is no file.
        TrecError: it is not UTF-8.
    """
    return _lines(path)


def run_lines(rankings: Mapping[str, Sequence[Candidate]], tag: str) -> Iterator[str]:
    """The lines of a run: queries by id, each one's candidates (given best first) with ranks from 1.

    trec_eval ignores the rank column: it sorts by score, as a 32-bit float, and breaks ties by *descending* id, other
    tools otherwise. So that every tool sees our ranks, a score that ties with the one before it, or exceeds it, is
    written as the next smaller 32-bit float; all other scores are written exactly.
    """
    for query_id in sorted(rankings):
        previous = np.float32(np.inf)
        for rank, candidate in enumerate(rankings[query_id], start=1):
            score = candidate.score
            if not np.float32(score) < previous:
                score = float(np.nextafter(previous, np.float32(-np.inf)))
            previous = np.float32(score)
            yield f"{query_id} Q0 {candidate.video_id} {rank} {score!r} {tag}"


def qrels_lines(qrels: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """The lines of qrels, by query id, then video id."""
    for query_id, videos in sorted(qrels.items()):
        yield from (f"{query_id} 0 {video_id} {relevance}" for video_id, relevance in sorted(videos.items()))


def queries_lines(queries: Mapping[str, str]) -> Iterator[str]:
    """The lines of a queries file, by id; white space within a text becomes single spaces."""
    yield from (f"{query_id}\t{' '.join(text.split())}" for query_id, text in sorted(queries.items()))


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Write ``lines`` as UTF-8 text, in one piece or not at all."""
    from transforms.storage.files import replacing

    with replacing(path) as stream:
        for line in lines:
            stream.write(f"{line}\n".encode())


def _named(path: str, columns: Mapping[str, str]) -> list[tuple[int, list[str]]] | None:
    """The cells of ``columns``, with line numbers, where the file is a table with a header or JSON Lines; else None."""
    name = path.removesuffix(".gz")
    if not holds_rows(name):
        return None
    with _opened(path) as stream:
        data = b"".join(iter(lambda: stream.read(1 << 20), b""))
    header = data.partition(b"\n")[0].decode("utf-8-sig", "replace").split("\t")
    if name.lower().endswith(".tsv") and not all(_among(header, known) for known in columns.values()):
        return None
    found = []
    try:
        for number, row in read_rows(name, data):
            keys = [_among(row, known) for known in columns.values()]
            if not all(keys):
                raise TrecError(
                    f"{path}, line {number}: needs a value in each of the columns {', '.join(columns)}, got {row}"
                )
            found.append((number, [str(row[key]) for key in keys if key]))
    except RowError as error:
        raise TrecError(str(error)) from error
    return found


def _among(columns: Iterable[str], known: str) -> str | None:
    """The first of ``columns`` that is one of the ``known`` names."""
    names = known.split()
    return next((name for name in columns if "".join(filter(str.isalnum, name)).lower() in names), None)


def _qrels_columns(path: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(path):
        query_id, _, video_id, relevance = _columns(path, number, line, "qid 0 docid rel")
        yield number, [query_id, video_id, relevance]


def _queries_columns(path: str) -> Iterator[tuple[int, list[str]]]:
    for number, line in _lines(path):
        query_id, tab, text = line.partition("\t")
        if not tab:
            raise TrecError(f"{path}, line {number}: must be 'id<TAB>text', got {line!r}")
        yield number, [query_id, text]


def _opened(path: str) -> BinaryIO:
    if not exists(path):
        raise FileNotFoundError(f"{path}: no such file")
    if is_remote(path):
        stream: BinaryIO = stores().open(path)
        return stream
    return cast(BinaryIO, gzip.open(path)) if path.lower().endswith(".gz") else open(path, "rb")


def _lines(path: str) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1."""
    with _opened(path) as stream:
        for number, line in enumerate(iter(stream.readline, b""), start=1):  # compressed streams only have readline
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise TrecError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
            if text.strip():
                yield number, text


def _columns(path: str, number: int, line: str, form: str) -> list[str]:
    columns = line.split()
    if len(columns) != len(form.split()):
        raise TrecError(f"{path}, line {number}: must be '{form}', got {line!r}")
    return columns


def _add(table: dict[str, T], key: str, value: T, what: str) -> None:
    if key in table:
        raise TrecError(f"{what} is listed twice")
    table[key] = value


def _ranked(videos: Mapping[str, tuple[float, int]]) -> list[Candidate]:
    ordered = sorted(videos.items(), key=lambda item: (*item[1], item[0]))
    return [Candidate(video_id, rank, -score) for rank, (video_id, (score, _)) in enumerate(ordered, start=1)]
