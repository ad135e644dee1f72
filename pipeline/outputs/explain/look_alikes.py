"""The queries that look like one, and that its video does not answer."""

from __future__ import annotations

from pipeline.outputs.explain.how_written import engine_line
from pipeline.outputs.plain_text import Lines, field, heading
from pipeline.outputs.tables import Tables


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
            margin = "no margin" if one["delta"] is None else f"margin {one['delta']:+.2f}"
            yield from field(one["edit"], one["query"])
            yield from field("", f"{one['teacher_label']}, {margin}: {one['rationale'] or 'no rationale'}")
