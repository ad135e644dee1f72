"""A file's video stream: what its headers say, which times to sample, and a decoded frame as a viewer sees it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from transforms.media.container import FrameTooLarge, NoVideoStream, best_stream, open_media, packets
from transforms.protocols.frames import Frame, FramePolicy, Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


def target_times(duration_s: float, policy: FramePolicy) -> list[float]:
    """The times to sample, seconds from the first frame: the midpoints of n equal parts of the duration.

    n = min(max_frames, floor(duration_s * sample_fps)), and at least 1.
    """
    count = max(1, min(policy.max_frames, math.floor(duration_s * policy.sample_fps)))
    return [(i + 0.5) * duration_s / count for i in range(count)]


@dataclass(frozen=True)
class VideoFile:
    """An open file and its best video stream, with the headers' facts; nothing is decoded to answer them."""

    container: InputContainer
    stream: VideoStream

    @property
    def container_name(self) -> str:
        """FFmpeg's name of the container, such as "matroska,webm"."""
        return self.container.format.name

    @property
    def codec(self) -> str:
        """The codec's name, such as "h264"; not that of the library that decodes it."""
        return str(self.stream.codec.canonical_name)

    @property
    def fps(self) -> float | None:
        """Average frames a second, where the headers give a rate that can be true."""
        rate = self.stream.average_rate
        return float(rate) if rate and 0 < rate <= 1000 else None

    @property
    def time_base(self) -> Fraction:
        """Seconds in one tick of the stream's timestamps."""
        return self.stream.time_base or Fraction(1, 1000)

    @property
    def aspect(self) -> Fraction | None:
        """Width over height of one pixel, where known."""
        return self.stream.sample_aspect_ratio

    @property
    def declared_duration_s(self) -> float | None:
        """Seconds from the first frame to the end of the stream; None where the headers are silent."""
        if self.stream.duration and self.stream.duration > 0:
            return float(self.stream.duration * self.time_base)
        if not self.container.duration or self.container.duration < 0:
            return None
        late_s = float((self.stream.start_time or 0) * self.time_base) - (self.container.start_time or 0) / 1e6
        duration_s = self.container.duration / 1e6 - max(late_s, 0.0)
        return duration_s if duration_s > 0 else None

    def scanned_duration_s(self) -> float:
        """Seconds from the first to the last frame, by reading on to the end without decoding."""
        unread = packets(self.container, self.stream)
        stamps = [packet.pts for packet in unread if packet is not None and packet.pts is not None]
        return float((max(stamps) - min(stamps)) * self.time_base) if stamps else 0.0


@contextmanager
def open_video(path: str, max_pixels: int) -> Iterator[VideoFile]:
    """Open a local file at its best video stream. The decoder, too, refuses frames of more than ``max_pixels``.

    Raises:
        UnreadableMedia: no container that may be opened.
        NoVideoStream: it holds no video.
        FrameTooLarge: the headers announce frames of more than ``max_pixels``.
    """
    with open_media(path, max_pixels) as container:
        stream: VideoStream | None = best_stream(container, "video")
        if stream is None:
            raise NoVideoStream("the file holds no video stream")
        if stream.width * stream.height > max_pixels:
            raise FrameTooLarge(f"frames of {stream.width} x {stream.height} pixels, the limit is {max_pixels}")
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        yield VideoFile(container, stream)


def shown_size(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height as a viewer sees the frame: upright, with square pixels."""
    width, height = _square_pixels(frame.width, frame.height, aspect)
    return (height, width) if _quarter_turns(frame) % 2 else (width, height)


def show(frame: VideoFrame, aspect: Fraction | None, time_s: float, max_side: int) -> Frame:
    """The frame as a viewer sees it, RGB, its longer side at most ``max_side`` pixels; never enlarged."""
    from av.video.reformatter import Interpolation

    width, height = _square_pixels(frame.width, frame.height, aspect)
    scale = min(1.0, max_side / max(width, height))
    rgb = frame.reformat(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        format="rgb24",
        interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
        threads=1,
    )
    image: Image = np.ascontiguousarray(np.rot90(rgb.to_ndarray(), _quarter_turns(frame)))
    return Frame(time_s, image)


def has_square_pixels(aspect: Fraction | None) -> bool:
    """Whether pixels are as good as square; an aspect that is unset or nonsense counts as square, too."""
    return aspect is None or not 0.25 <= aspect <= 4 or abs(aspect - 1) < 0.02


def _square_pixels(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size with square pixels; the side that is too long is shrunk, so that nothing is enlarged."""
    if aspect is None or has_square_pixels(aspect):
        return width, height
    if aspect > 1:
        return width, max(1, round(height / aspect))
    return max(1, round(width * aspect)), height


def _quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that the file asks for; damaged files ask for anything, which counts as none."""
    degrees = frame.rotation
    return degrees // 90 % 4 if degrees % 90 == 0 and abs(degrees) <= 360 else 0
