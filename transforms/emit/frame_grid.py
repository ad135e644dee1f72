"""Frames as the trainer wants them: an even number, on the model's patch grid, inside a pixel budget, as JPEG."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from schemas.check import require
from schemas.configuration.section import Section
from schemas.video import grid_size, spread


class FrameGrid(Section, frozen=True):
    """How many frames of a video go into the shards, and how large.

    Sides are multiples of ``patch`` pixels and their product is at most ``max_pixels``, so that the processor of a
    Qwen-style model need not resize again; such models merge two frames, hence an even number.
    """

    frames: int = 24
    max_pixels: int = 128 * 32 * 32
    patch: int = 32
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        require(self.frames >= 2 and self.frames % 2 == 0, "frames must be an even number of at least 2", self.frames)
        require(self.patch >= 1, "patch must be at least 1", self.patch)
        require(1 <= self.jpeg_quality <= 95, "jpeg_quality must lie in [1, 95]", self.jpeg_quality)
        require(self.max_pixels >= self.patch**2, "max_pixels must hold at least one patch", self.max_pixels)


def on_grid(jpegs: Sequence[tuple[float, bytes]], grid: FrameGrid) -> tuple[list[float], list[bytes]]:
    """Choose and resize frames of one video.

    Args:
        jpegs: (time in seconds, JPEG) in time order, at least one.
        grid: how many, how large.

    Returns:
        Times in seconds and JPEGs of one size, at most ``grid.frames`` and an even number of each (a single frame is
        given twice).
    """
    wanted = min(grid.frames, len(jpegs) - len(jpegs) % 2) or 2
    chosen = [jpegs[i] for i in spread(len(jpegs), wanted)]
    if len(chosen) == 1:
        chosen *= 2
    with Image.open(io.BytesIO(chosen[0][1])) as first:
        size = grid_size(*first.size, grid.max_pixels, grid.patch)
    return [time_s for time_s, _ in chosen], [_fit(jpeg, size, grid.jpeg_quality) for _, jpeg in chosen]


def _fit(jpeg: bytes, size: tuple[int, int], quality: int) -> bytes:
    with Image.open(io.BytesIO(jpeg)) as image:
        fitted = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    fitted.save(encoded, "JPEG", quality=quality)
    return encoded.getvalue()
