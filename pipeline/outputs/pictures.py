"""Small pictures of frames, as data URLs of pages that stand alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

from PIL import Image, UnidentifiedImageError

from pipeline.outputs.tables import Row
from schemas.video import spread

_THUMBNAIL = (256, 144)  # pixels at most
_FRAMES_SHOWN = 3


def strip(video: Row) -> tuple[str, ...]:
    """Some frames of a row of the videos table, evenly spread, as data URLs."""
    frames = video["frames"] or []
    thumbnails: Iterable[str] = (thumbnail(frames[place]["bytes"]) for place in spread(len(frames), _FRAMES_SHOWN))
    return tuple(filter(None, thumbnails))


def thumbnail(jpeg: bytes) -> str:
    """A small copy of a picture as a data URL; empty where the bytes are no picture."""
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            picture.draft("RGB", _THUMBNAIL)
            small = picture.convert("RGB")
    except (UnidentifiedImageError, OSError):  # the page shows the rest; verify reports such frames
        return ""
    small.thumbnail(_THUMBNAIL)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=72, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
