"""What further judges say of a pair that the first one doubted."""

from __future__ import annotations

from pipeline.outputs.explain.how_written import engine_line
from pipeline.outputs.plain_text import Lines, field, heading
from pipeline.outputs.tables import Row


def how_the_panel_judged(judgement: Row) -> Lines:
    """Each verdict of the panel with its margin and its reasons; nothing where none was asked."""
    if judgement["panel"]:
        yield from heading("The panel")
    for opinion in judgement["panel"]:
        margin = "no margin" if opinion["delta"] is None else f"margin {opinion['delta']:+.2f}"
        said = f"{opinion['label']}, {margin} from {opinion['confidence_source']}, by {engine_line(opinion['teacher'])}"
        yield from field(opinion["judge"], said)
        yield from field("", opinion["rationale"] or "(no rationale)")
