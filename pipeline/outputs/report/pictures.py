"""Pictures on the report's page."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.outputs.tables import Row
from schemas.video import spread
from transforms.media.thumbnail import thumbnail

_FRAMES_SHOWN = 3


def strip(video: Row) -> tuple[str, ...]:
    """Some frames of a row of the videos table, evenly spread, as data URLs."""
    frames = video["frames"] or []
    thumbnails: Iterable[str] = (thumbnail(frames[place]["bytes"]) for place in spread(len(frames), _FRAMES_SHOWN))
    return tuple(filter(None, thumbnails))
