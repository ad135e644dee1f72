"""How a query was written: by whom, from what, with which sampling, and how hard its writer thinks it is."""

from __future__ import annotations

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.plain_text import Lines, field
from pipeline.outputs.tables import Row


def how_written(manifest: Manifest, query: Row) -> Lines:
    """The fields of a row of the queries table that a teacher wrote."""
    yield from field("written for", f"video {query['video_id']}, from {_variant(query['variant'])}")
    yield from field("written by", engine_line(query["writer"]))
    yield from field("asked with", _sampling(manifest, query))
    needed = ", ".join(query["modalities"]) or "nothing in particular"
    yield from field("type", f"{query['query_type']}; needs {needed}")
    if query["difficulty"]:
        yield from field("difficulty", _difficulty(query["difficulty"]))
    for cited in query["cited"]:
        yield from field("cites", cited)
    yield from field("rationale", query["rationale"] or "(none)")
    yield from cut_lines(query)


def cut_lines(row: Row) -> Lines:
    """What the prompt of a row, of queries or of judgements, left out of the evidence."""
    for cut in row["evidence_cut"] or ():
        yield from field("evidence cut", f"{cut['modality']}: the first {cut['shown']:,} of {cut['of']:,} characters")


def engine_line(stamp: Row) -> str:
    """An engine's name, version and model."""
    return " ".join(part for part in (stamp["name"], stamp["version"], stamp["model"]) if part)


def _sampling(manifest: Manifest, query: Row) -> str:
    teacher = manifest.recipe.get("synthesize", {}).get("teacher", {})
    temperature = (
        f"temperature {teacher['temperature']}" if "temperature" in teacher else "the engine's own temperature"
    )
    return f"seed {query['seed']}, {temperature}, at attempt {query['attempts']}"


def _difficulty(row: Row) -> str:
    rated = [f"{name.replace('_', ' ')} {rating}" for name, rating in (row["rated"] or {}).items() if rating]
    own = ", ".join(rated) or ("nothing" if row["rated"] else "not rated")
    gap = f"{100 * row['lexical_gap']:.0f} % of its content words are not in the evidence"
    return f"{own}; {row['length']}, cross modal {row['cross_modal']}, {gap}"


def _variant(variant: str) -> str:
    together = {
        "all": "all its evidence",
        "request": "all its evidence, as a long request or a part of one",
        "event": "all its evidence, as an event or what was before, during or after it",
    }
    return together.get(variant, f"its {variant} alone")
