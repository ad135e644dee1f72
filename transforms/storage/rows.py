"""Rows with named columns, read from files that others wrote: JSON Lines, Parquet, and CSV or TSV with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.check import read_json

ROW_EXTENSIONS = (".jsonl", ".ndjson", ".parquet", ".csv", ".tsv")
FORMS = "JSON Lines (.jsonl, .ndjson), Parquet (.parquet), or CSV or TSV with a header (.csv, .tsv)"

Row = dict[str, Any]


class RowError(ValueError):
    """A file that cannot be read as rows; one line with its name, and the line in it."""


def holds_rows(path: str) -> bool:
    """Whether a file's name says that it holds rows."""
    return path.lower().endswith(ROW_EXTENSIONS)


def read_rows(path: str, data: bytes) -> Iterator[tuple[int, Row]]:
    """The rows of a file that holds ``data``, with their line numbers (Parquet: row numbers) from 1.

    Blank lines are skipped, and a byte order mark; an empty cell of CSV or TSV is a column that the row lacks.

    Raises:
        RowError: a line that cannot be read.
    """
    if path.lower().endswith(".parquet"):
        yield from enumerate(_parquet_rows(path, data), start=1)
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RowError(f"{path} cannot be read: not UTF-8, {error.reason} at byte {error.start}") from error
    yield from (_table_rows if path.lower().endswith((".csv", ".tsv")) else _json_rows)(path, text)


def _parquet_rows(path: str, data: bytes) -> list[Row]:
    try:
        rows: list[Row] = pq.read_table(io.BytesIO(data)).to_pylist()
    except pa.ArrowException as error:
        raise RowError(f"{path} cannot be read: {error}") from error
    return rows


def _json_rows(path: str, text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold other separators
        if line.strip():
            try:
                yield number, read_json(line, Row)
            except (msgspec.DecodeError, RecursionError) as error:
                said = str(error) if isinstance(error, msgspec.ValidationError) else f"not JSON: {error}"
                raise RowError(f"{path}, line {number}: {said}") from error


def _table_rows(path: str, text: str) -> Iterator[tuple[int, Row]]:
    header_line = text.partition("\n")[0]
    delimiter = max("\t,;", key=header_line.count) if path.lower().endswith(".csv") else "\t"
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    start = 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
            elif len(cells) > len(header):
                raise RowError(f"{path}, line {number}: {len(cells)} cells under a header of {len(header)}")
            else:
                yield number, {name: cell for name, cell in zip(header, cells, strict=False) if cell.strip()}
    except csv.Error as error:
        raise RowError(f"{path}, line {start}: {error}") from error
