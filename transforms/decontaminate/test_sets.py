"""Test sets: what a recipe says of one, and what is read of it once a process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated

import msgspec

from schemas.check import require, require_text
from schemas.configuration.section import Section
from transforms.decontaminate.word_runs import LEAST, RUN, WordRuns
from transforms.storage.files import digest, list_files
from transforms.storage.files import join as joined
from transforms.storage.trec import TrecError, read_lines, read_queries

_SHA256 = re.compile(r"([0-9a-f]{64})\s+\*?(.+)")


class AlikeQueries(Section, frozen=True):
    """A query is also of the test set where its vectors by ``run`` and those of a test query have such a cosine."""

    run: str
    cosine: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.9

    def __post_init__(self) -> None:
        require_text("run", self.run)


class TestSet(Section, frozen=True):
    """A test set that nothing of the data may be taken from, called ``name`` in what is told of it.

    ``queries`` and ``corpus`` are files of ids and texts (``id<TAB>text``, or a table or JSON Lines with columns such
    as query_id and query). A query of the data is dropped that shares ``run`` words in a row with one of the queries,
    a video that does so with a document of the corpus, or has its id. ``media`` is what ``sha256sum`` prints of the
    set's media files, or a folder of them: a video of the same bytes is dropped. ``vectors`` drops queries by them too.
    """

    __test__ = False  # pytest takes classes of such a name for tests

    name: str
    queries: str | None = None
    corpus: str | None = None
    media: str | None = None
    run: int = RUN
    vectors: AlikeQueries | None = None

    def __post_init__(self) -> None:
        require_text("name", self.name)
        given = (self.queries, self.corpus, self.media)
        require(any(given), "a test set has queries, a corpus or media", self.name)
        require(self.queries is not None or self.vectors is None, "vectors are those of queries", self.name)
        require(self.run >= LEAST, f"run must be at least {LEAST}", self.run)


@dataclass(frozen=True, slots=True)
class TestFile:
    """A file of a test set that was looked at: what it is, how many entries it has, and its hash ("" of a folder)."""

    __test__ = False

    test_set: str
    kind: str
    path: str
    entries: int
    sha256: str


class CannotReadTestSet(ValueError):
    """A file of a test set that is not there or cannot be read; one line."""


@cache
def runs_of(path: str, run: int) -> WordRuns:
    """The runs of words of a file's texts."""
    return WordRuns.of(texts_of(path), run)


@cache
def texts_of(path: str) -> Mapping[str, str]:
    """The texts of a file by id.

    Raises:
        CannotReadTestSet: it is not there, or a line is not of the form.
    """
    try:
        return read_queries(path)
    except (TrecError, OSError) as error:
        raise CannotReadTestSet(str(error)) from error


@cache
def media_of(path: str) -> Mapping[str, str]:
    """The names of media files by their SHA-256: listed in a file, or those of a folder.

    Raises:
        CannotReadTestSet: nothing is there, or a line is not what ``sha256sum`` prints.
    """
    if files := list_files(path):
        return {digest(joined(path, name))[0]: name for name in files}
    hashes: dict[str, str] = {}
    try:
        for number, line in read_lines(path):
            found = _SHA256.fullmatch(line.strip())
            if not found:
                raise CannotReadTestSet(f"{path}, line {number}: must be 'sha256  file', got {line!r}")
            hashes.setdefault(found[1], found[2])
    except (TrecError, OSError) as error:
        raise CannotReadTestSet(str(error)) from error
    return hashes


def files_of(test_sets: tuple[TestSet, ...]) -> tuple[TestFile, ...]:
    """Every file of the test sets, which are read now.

    Raises:
        CannotReadTestSet: one cannot be.
    """
    found = []
    for each in test_sets:
        for kind, path in (("queries", each.queries), ("corpus", each.corpus), ("media", each.media)):
            if path is not None:
                try:
                    entries = len(media_of(path) if kind == "media" else texts_of(path))
                except CannotReadTestSet as error:
                    raise CannotReadTestSet(f"recipe key decontaminate: {kind} of {each.name!r}: {error}") from error
                sha256 = "" if list_files(path) else digest(path)[0]
                found.append(TestFile(each.name, kind, path, entries, sha256))
    return tuple(found)
