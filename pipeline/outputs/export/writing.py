"""Writing the files of an export: each whole or not at all."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TextIO

import jsonlines

from pipeline.outputs.errors import UnwritableExport
from transforms.storage.files import join, replacing

Write = Callable[[TextIO], object]

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def write_files(destination: str, contents: Mapping[str, Write]) -> list[str]:
    """Write files by name below a folder; returns their paths.

    Raises:
        UnwritableExport: it cannot be written to.
    """
    written = []
    with writing_to(destination):
        for name, write in contents.items():
            written.append(join(destination, name))
            with _text_file(written[-1]) as file:
                write(file)
    return written


@contextmanager
def writing_to(destination: str) -> Iterator[None]:
    """Say of an error of writing what to do: those of reading are UnreadableOutput by now."""
    try:
        yield
    except OSError as error:
        raise UnwritableExport(
            f"cannot export to {destination}: {error.strerror or error}; name a folder to write to"
        ) from error


@contextmanager
def _text_file(path: str) -> Iterator[TextIO]:
    with replacing(path) as stream:
        text = io.TextIOWrapper(stream, "utf-8", newline="\n", write_through=False)
        yield text
        text.flush()
        text.detach()  # the stream is closed by whoever opened it


def json_lines(rows: Iterable[dict[str, Any]]) -> Write:
    """One object a line."""

    def write(file: TextIO) -> None:
        jsonlines.Writer(file, dumps=dumps).write_all(rows)

    return write


def json_object(items: Iterable[tuple[str, str]]) -> Write:
    """One JSON object, a member a line, without ever holding it whole; values are given as JSON."""

    def write(file: TextIO) -> None:
        file.write("{")
        for number, (key, value) in enumerate(items):
            file.write(f"{',' if number else ''}\n{dumps(key)}: {value}")
        file.write("\n}\n")

    return write


def text_lines(lines: Iterable[str]) -> Write:
    """Lines that end as they are given."""
    return lambda file: file.writelines(lines)


def dumps(value: Any) -> str:
    """JSON as every export has it."""
    if value is None:  # one of a kind with the next two, for which the encoder would first be set up
        return "null"
    if type(value) is int or (type(value) is float and math.isfinite(value)):
        return repr(value)
    return _JSON.encode(value)
