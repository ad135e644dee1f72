"""The TREC run of an output, of any size, read query by query."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.outputs.errors import UnreadableOutput, reading
from transforms.storage.files import join, open_seekable

RUN = "run.trec"

Placed = tuple[str, int, float]  # video id, rank, score


def rankings(output: str) -> Iterator[tuple[str, list[Placed]]]:
    """(query id, its candidates in file order), one query in memory at a time.

    Raises:
        UnreadableOutput: there is no run, or a line is not ``qid Q0 docid rank score tag``.
    """
    query_id, placed = "", list[Placed]()
    with reading(output, RUN), open_seekable(join(output, RUN)) as stream:
        for number, line in enumerate(stream, start=1):
            try:
                found, _, video_id, rank, score, _ = line.decode().split()
                candidate = (video_id, int(rank), float(score))
            except ValueError as error:
                reason = f"line {number}: must be 'qid Q0 docid rank score tag', got {line!r}"
                raise UnreadableOutput(output, RUN, reason) from error
            if found != query_id and placed:
                yield query_id, placed
                placed = []
            query_id = found
            placed.append(candidate)
    if placed:
        yield query_id, placed
