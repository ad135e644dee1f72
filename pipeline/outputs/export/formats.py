"""Exports by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from pipeline.outputs.export.ms_swift import export_ms_swift, export_ms_swift_frames
from pipeline.outputs.export.mteb import export_mteb
from pipeline.outputs.export.peers import (
    export_beir,
    export_clamr,
    export_sentence_transformers,
    export_tevatron,
    export_trl,
)
from pipeline.outputs.export.rankvideo import export_rankvideo
from pipeline.outputs.manifest import read_manifest

Export = Callable[[str, str, str | None, bool], list[str]]

EXPORTS: Mapping[str, Export] = {
    "rankvideo": export_rankvideo,
    "sentence-transformers": export_sentence_transformers,
    "ms-swift": export_ms_swift,
    "ms-swift-frames": export_ms_swift_frames,
    "trl": export_trl,
    "tevatron": export_tevatron,
    "clamr": export_clamr,
    "beir": export_beir,
    "mteb": export_mteb,
}
"""(output, destination, folder of the videos or None, whether to number videos) -> paths written."""

TAKES_BY_VIDEO = ("sentence-transformers", "trl")
"""Those whose rows are pairs of a query and a video, and so can hold groups of one video and several queries."""

GROUP = "hardquery.exports"
"""Entry points of other distributions: NAME = "module:function", a function that is called as those of EXPORTS are."""


def exports() -> dict[str, Export]:
    """Exports by name, those of other distributions among them, which take the place of none of ours."""
    return {point.name: partial(_loaded, point) for point in entry_points(group=GROUP)} | dict(EXPORTS)


def left_out_by(name: str, output: str) -> str:
    """A line of what of an output a format of ours has no place for; "" where that is nothing."""
    count = read_manifest(output).tables(output).count("ranking_by_video")
    if name not in EXPORTS or name in TAKES_BY_VIDEO or not count:
        return ""
    others = " and ".join(TAKES_BY_VIDEO)
    return f"{count:,} groups of one video are left out: {name} has no place for several queries of it ({others} have)"


def _loaded(point: EntryPoint, output: str, destination: str, video_dir: str | None, numeric_ids: bool) -> list[str]:
    export: Export = point.load()
    return export(output, destination, video_dir, numeric_ids)
