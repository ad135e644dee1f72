"""Small pictures of frames, as data URLs of pages that stand alone."""

from __future__ import annotations

import base64
import io

from PIL import Image, UnidentifiedImageError

_SIZE = (256, 144)  # pixels at most


def thumbnail(jpeg: bytes) -> str:
    """A small copy of a picture as a data URL; empty where the bytes are no picture."""
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            picture.draft("RGB", _SIZE)
            small = picture.convert("RGB")
    except (UnidentifiedImageError, OSError):  # the page shows the rest; verify reports such frames
        return ""
    small.thumbnail(_SIZE)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=72, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
