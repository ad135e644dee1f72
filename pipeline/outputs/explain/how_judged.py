"""What is said of a pair beside its judgement: by further judges, and by the same one without part of the evidence."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.outputs.explain.how_written import engine_line
from pipeline.outputs.measured.difficulty import measure
from pipeline.outputs.measured.necessity import necessity_of
from pipeline.outputs.plain_text import Lines, field, heading
from pipeline.outputs.tables import Row, Tables


def how_the_panel_judged(judgement: Row) -> Lines:
    """Each verdict of the panel with its margin and its reasons; nothing where none was asked."""
    if judgement["panel"]:
        yield from heading("The panel")
    for opinion in judgement["panel"]:
        margin = "no margin" if opinion["delta"] is None else f"margin {opinion['delta']:+.2f}"
        said = f"{opinion['label']}, {margin} from {opinion['confidence_source']}, by {engine_line(opinion['teacher'])}"
        yield from field(opinion["judge"], said)
        yield from field("", opinion["rationale"] or "(no rationale)")


def how_hard(judgements: Sequence[Row]) -> Lines:
    """What the judge's margins say of the query; nothing where its own video was not judged."""
    if any(row["is_positive"] for row in judgements):
        found = measure({}, judgements)
        ahead = "" if found.gap is None else f"its own video is ahead of the best other by {found.gap:+.2f}; "
        yield from field("measured", f"{ahead}{found.rivals} of {found.judged} others cannot be told from it")


def what_the_label_rests_on(tables: Tables, judgement: Row) -> Lines:
    """The verdict without each modality; nothing of a pair of which the judge was not asked so."""
    for row in tables.matching("necessity", "query_id", judgement["query_id"]):
        if row["video_id"] != judgement["video_id"]:
            continue
        found = necessity_of(row)
        yield from heading("What the label rests on")
        several = "no single modality: others tell the same" if found.without else ""
        yield from field("rests on", " and ".join(found.rests_on) or several)
        yield from field("shown", ", ".join(found.shown))
        yield from field("not shown", ", ".join(found.unseen) or "nothing else that the video has")
        for one in found.without:
            fall = "" if one.drop is None else f", the margin falls by {one.drop:+.2f}"
            yield from field(f"no {one.modality}", f"{one.teacher_label}{fall}")
            yield from field("", one.rationale or "(no rationale)")
