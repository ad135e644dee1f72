"""What must hold of a group of one video: its query is that of a ranking group, and its negatives are its own."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.outputs.tables import Row
from pipeline.outputs.verify.records import broken_margin, broken_probability
from schemas.example import NegativeQuery


def broken_by_video(row: Row, video_id: str, text: str) -> Iterator[tuple[str, str]]:
    """(Where, rule) of all that a row of ``ranking_by_video`` breaks; video and text are those of its ranking group."""
    query_id = row["query_id"]
    if row["video_id"] != video_id:
        yield query_id, f"its video {row['video_id']!r} is not its query's"
    if (row.get("reworded_from") or row["candidates"][0]["query"]) != text:
        yield query_id, "its true query is not that of its ranking group"
    for candidate in row["candidates"]:
        where = f"{query_id}:{candidate['query_id']}"
        if candidate["delta"] is not None and (broken := broken_margin(candidate)):
            yield where, broken.rule
        yield from ((where, rule) for rule in broken_probability(candidate))
        if not candidate["label"] and candidate["query_id"] != NegativeQuery.id_of(query_id, candidate["query"]):
            yield where, "its id is not that of its text"
