"""A small and complete output with groups of one video, as ``tiny_output`` is one without."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipeline.outputs.report.complete import complete
from schemas.example import NegativeQuery
from schemas.query import Margin
from schemas.tables import TABLES, row_of
from tests.support.tiny_output import ALWAYS, ENGINES, RECIPE, tiny_rows, tiny_run_info, write_tables, write_tiny
from transforms.emit.shards import Row


def write_tiny_by_video(folder: Any) -> list[Row]:
    """The valid output with groups of one video as well, of every third query; returns these, with their splits."""
    output, rows = str(folder), tiny_rows()
    rows["ranking_by_video"] = [(split, _by_video(row)) for split, row in rows["ranking"][::3]]
    write_tiny(folder)
    recipe = {**RECIPE, "synthesize": {**RECIPE["synthesize"], "negative_queries": {"queries": 4, "kept": 2}}}
    written = write_tables(output, rows, [*ALWAYS, "ranking_by_video"])
    complete(output, replace(tiny_run_info(), recipe=recipe), written)
    return [{**row, "split": split} for split, row in rows["ranking_by_video"]]


def _by_video(row: Row) -> Row:
    """A true query, and two that look like it: of the second the verifier is less sure."""
    positive, said = row["candidates"][0], row["candidates"][1]
    names = list(TABLES["ranking_by_video"].arrow_schema.field("candidates").type.value_type.names)
    true = {"query_id": row["query_id"], "query": row["query"], "edit": None}
    texts = {edit: f"{row['query']}, but {edit}" for edit in ("year", "place")}
    others = [
        {"query_id": NegativeQuery.id_of(row["query_id"], text), "query": text, "edit": edit}
        for edit, text in texts.items()
    ]
    margins = [
        {**dict.fromkeys(("delta", "delta_lo", "delta_hi"), delta), "p_yes": Margin(delta, delta, delta).p_yes}
        for delta in (-9.0, -7.0)
    ]
    false = [{**said, **other, **margin, "teacher_label": "no"} for other, margin in zip(others, margins, strict=True)]
    made = [{**positive, **true}, *false]
    return {
        "query_id": row["query_id"],
        "video_id": positive["video_id"],
        "writer": row_of(ENGINES["writer"]),
        "verifier": row_of(ENGINES["judge"]),
        "candidates": [{name: one.get(name) for name in names} for one in made],
    }
