"""What must hold of what a label is said to rest on: it is that of a positive, with its margin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.outputs.tables import Row
from pipeline.outputs.verify.records import broken_margin, broken_probability


def broken_necessity(row: Row, positives: Mapping[tuple[str, str], float | None]) -> Iterator[tuple[str, str]]:
    """(Where, rule) of all that a row of ``necessity`` breaks, given the margins of all positives of groups."""
    pair = (row["query_id"], row["video_id"])
    where = ":".join(pair)
    if pair not in positives:
        yield where, "is no positive of a ranking group"
    elif positives[pair] != row["delta"]:
        yield where, "its delta is that of the positive"
    for one in row["without"]:
        if one["delta"] is not None and (broken := broken_margin(one)):
            yield where, broken.rule
        yield from ((where, rule) for rule in broken_probability(one))
