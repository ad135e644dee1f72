"""The TREC runs of an output, of any size, read query by query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.outputs.errors import UnreadableOutput, reading
from transforms.storage.files import join, open_seekable

RUN = "run.trec"

Placed = tuple[str, int, float]  # video id, rank, score


def run_files(runs: Iterable[str]) -> dict[str, str | None]:
    """The run files of an output by name: the one that a reranker is given, and those of several first stages."""
    names = list(runs)
    return {RUN: None, **({f"run.{name}.trec": name for name in names} if len(names) > 1 else {})}


def runs_of(recipe: Mapping[str, Any]) -> list[str]:
    """The names of a recipe's first stages."""
    return list(recipe.get("mine", {}).get("first_stages", ()))


def rankings(output: str, name: str = RUN) -> Iterator[tuple[str, list[Placed]]]:
    """(query id, its candidates in file order), one query in memory at a time.

    Raises:
        UnreadableOutput: there is no such run, or a line is not ``qid Q0 docid rank score tag``.
    """
    query_id, placed = "", list[Placed]()
    with reading(output, name), open_seekable(join(output, name)) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                found, _, video_id, rank, score, _ = line.decode().split()
                candidate = (video_id, int(rank), float(score))
            except ValueError as error:
                reason = f"line {number}: must be 'qid Q0 docid rank score tag', got {line!r}"
                raise UnreadableOutput(output, name, reason) from error
            if found != query_id and placed:
                yield query_id, placed
                placed = []
            query_id = found
            placed.append(candidate)
    if placed:
        yield query_id, placed
