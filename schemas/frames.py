"""Which frames of a video are taken, and in what size: what those who write, show and read them share."""

from __future__ import annotations

import math


def spread(count: int, wanted: int) -> list[int]:
    """Indices of at most ``wanted`` of ``count`` items, evenly spread over the whole, in order."""
    kept = min(count, wanted)
    return [(2 * i + 1) * count // (2 * kept) for i in range(kept)]


def grid_size(width: int, height: int, max_pixels: int, multiple: int) -> tuple[int, int]:
    """The size in pixels, on the grid, that is nearest in shape to (width, height); frames are never enlarged much.

    Each side is a multiple of ``multiple``, at least once; the area is at most ``max_pixels`` where one square of the
    grid is.
    """
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    columns = max(1, round(width * scale / multiple))
    rows = max(1, round(height * scale / multiple))
    while columns * rows * multiple**2 > max_pixels and max(columns, rows) > 1:
        # Rounding up overshot the budget: give up one square on the side that loses less shape.
        if columns >= rows:
            columns -= 1
        else:
            rows -= 1
    return columns * multiple, rows * multiple
