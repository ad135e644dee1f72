"""A TREC run of any size, read query by query."""

from __future__ import annotations

from collections.abc import Iterator

from transforms.files import open_seekable
from transforms.trec import TrecError

Placed = tuple[str, int, float]  # video id, rank, score


def rankings(path: str) -> Iterator[tuple[str, list[Placed]]]:
    """(query id, its candidates in file order), one query in memory at a time.

    Raises:
        TrecError: a line is not ``qid Q0 docid rank score tag``; the message names it.
    """
    query_id, placed = "", list[Placed]()
    with open_seekable(path) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                found, _, video_id, rank, score, _ = line.decode().split()
                candidate = (video_id, int(rank), float(score))
            except ValueError as error:
                raise TrecError(
                    f"{path}, line {number}: must be 'qid Q0 docid rank score tag', got {line!r}"
                ) from error
            if found != query_id and placed:
                yield query_id, placed
                placed = []
            query_id = found
            placed.append(candidate)
    if placed:
        yield query_id, placed
