"""From an OCR library's corner points to text boxes in fractions of the frame, in reading order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schemas.video import Box
from transforms.protocols.screen_text import TextBox


def upright_box(corners: Iterable[Sequence[float]], width: int, height: int) -> Box:
    """The upright rectangle around ``corners`` (x, y in pixels), clipped to an image of that size, as fractions."""
    points = [(float(x), float(y)) for x, y in corners]
    across = [min(max(x / width, 0.0), 1.0) for x, _ in points]
    down = [min(max(y / height, 0.0), 1.0) for _, y in points]
    return Box(min(across), min(down), max(across), max(down))


def reading_order(boxes: Iterable[TextBox]) -> list[TextBox]:
    """Rows from top to bottom, each from left to right; the result does not depend on the order of ``boxes``.

    A box joins the row above it when its middle lies within the height of that row's first box, so that words on one
    line keep their order although their tops differ by a pixel.
    """
    rows: list[list[TextBox]] = []
    for box in sorted(boxes, key=lambda b: (b.box.top + b.box.bottom, b.box.left, b.text, b.confidence)):
        middle = (box.box.top + box.box.bottom) / 2
        if rows and middle < rows[-1][0].box.bottom:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda b: (b.box.left, b.box.top, b.text, b.confidence))]
