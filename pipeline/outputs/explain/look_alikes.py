"""The queries that look like one, and that its video does not answer."""

from __future__ import annotations

from pipeline.outputs.explain.how_written import engine_line
from pipeline.outputs.plain_text import Lines, field, heading, wrapped
from pipeline.outputs.tables import Row, Tables


def the_group_of_its_video(tables: Tables, query_id: str) -> Lines:
    """Each negative query with what it changes and how sure the verifier is; nothing of a query that has none."""
    for row in tables.matching("ranking_by_video", "query_id", query_id):
        yield from heading("The group of its video")
        yield from field("written by", engine_line(row["writer"]))
        yield from field("verified by", engine_line(row["verifier"]))
        true, *negatives = row["candidates"]
        if row.get("reworded_from"):
            yield from field("in other words", true["query"])
        for one in negatives:
            yield from field(one["edit"], f"{one['query']} ({one['query_id']})")
            yield from field("", _verdict(one))


def look_alikes_of_video(tables: Tables, video_id: str) -> Lines:
    """The groups of a video: each true query with the negative ones that look like it."""
    groups = tables.matching("ranking_by_video", "video_id", video_id)
    if groups:
        yield from heading("Queries that look like its own, which it does not answer")
    for row in groups:
        true, *negatives = row["candidates"]
        yield f"  {true['query_id']}"
        yield from wrapped(true["query"], " " * 6)
        for one in negatives:
            yield from wrapped(f"{one['edit']}: {one['query']} ({one['query_id']})", " " * 6)


def negative_query(tables: Tables, query_id: str) -> Lines | None:
    """The story of a negative query by its own id; None where there is none of it."""
    for row in tables.rows("ranking_by_video", ["query_id", "video_id", "verifier", "writer", "candidates"]):
        for one in row["candidates"]:
            if not one["label"] and one["query_id"] == query_id:
                return _of_negative(row, one)
    return None


def _of_negative(row: Row, one: Row) -> Lines:
    true = row["candidates"][0]
    yield f"NEGATIVE QUERY {one['query_id']}"
    yield from (*wrapped(one["query"]), "")
    yield from field("looks like", f"{true['query']} ({true['query_id']})")
    yield from field("changes", one["edit"])
    yield from field("not answered by", row["video_id"])
    yield from field("written by", engine_line(row["writer"]))
    yield from field("verified by", engine_line(row["verifier"]))
    yield from field("", _verdict(one))


def _verdict(one: Row) -> str:
    margin = "no margin" if one["delta"] is None else f"margin {one['delta']:+.2f}"
    return f"{one['teacher_label']}, {margin}: {one['rationale'] or 'no rationale'}"
