"""What a decoder of pictures is asked, and what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.check import require
from schemas.configuration.section import Section
from schemas.video import EvidenceWarning

Image = NDArray[np.uint8]  # [height, width, 3], RGB


@dataclass(frozen=True, slots=True)
class Frame:
    """A decoded frame: its presentation time in seconds from the first frame, and its pixels."""

    time_s: float
    image: Image


@dataclass(frozen=True, slots=True)
class SampledFrames:
    """What a sampler returns: the frames in time order, stream facts, and a warning for each thing that is partial.

    ``origin_s`` is the first frame's time on the container's clock, which the audio shares.
    """

    frames: tuple[Frame, ...]
    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    warnings: tuple[EvidenceWarning, ...] = ()
    origin_s: float = 0.0


class FramePolicy(Section, frozen=True):
    """Which frames to take and how large: at most ``max_frames``, spread evenly at no more than ``sample_fps``.

    ``max_side`` bounds the longer side in pixels, ``max_pixels`` refuses larger source frames before decoding them.
    """

    sample_fps: float = 1.0
    max_frames: int = 32
    max_side: int = 768
    max_pixels: int = 8192 * 8192
    jpeg_quality: int = 90

    def __post_init__(self) -> None:
        require(math.isfinite(self.sample_fps) and self.sample_fps > 0, "sample_fps must be above 0", self.sample_fps)
        for name in ("max_frames", "max_side", "max_pixels"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))
        require(1 <= self.jpeg_quality <= 100, "jpeg_quality must lie in [1, 100]", self.jpeg_quality)
