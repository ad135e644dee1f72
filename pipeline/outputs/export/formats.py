"""Exports by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from pipeline.outputs.export.mteb import export_mteb
from pipeline.outputs.export.peers import (
    export_beir,
    export_clamr,
    export_ms_swift,
    export_sentence_transformers,
    export_tevatron,
    export_trl,
)
from pipeline.outputs.export.rankvideo import export_rankvideo

Export = Callable[[str, str, str | None, bool], list[str]]

EXPORTS: Mapping[str, Export] = {
    "rankvideo": export_rankvideo,
    "sentence-transformers": export_sentence_transformers,
    "ms-swift": export_ms_swift,
    "trl": export_trl,
    "tevatron": export_tevatron,
    "clamr": export_clamr,
    "beir": export_beir,
    "mteb": export_mteb,
}
"""(output, destination, folder of the videos or None, whether to number videos) -> paths written."""

GROUP = "hardquery.exports"
"""Entry points of other distributions: NAME = "module:function", a function that is called as those of EXPORTS are."""


def exports() -> dict[str, Export]:
    """Exports by name, those of other distributions among them, which take the place of none of ours."""
    return {point.name: partial(_loaded, point) for point in entry_points(group=GROUP)} | dict(EXPORTS)


def _loaded(point: EntryPoint, output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    export: Export = point.load()
    return export(output, destination, video_dir, numeric_ids)
