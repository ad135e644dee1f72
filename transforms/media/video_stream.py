"""A file's video stream: what its headers say, which times to sample, and a decoded frame as a viewer sees it."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.media.clock import BARE, LEAPING, Clock, is_any, read_clock
from transforms.media.container import FrameTooLarge, NoVideoStream, film_stream, open_media, read_only
from transforms.protocols.frames import Frame, FramePolicy, Image

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# A frame that begins this soon after a target is the target's: containers round times, to a millisecond at worst.
ROUNDING_S = 1e-3
# Where the clock starts this late, a header's duration may count from its start or from zero; only reading on tells.
LATE_S = 1.0

# Where a file names no colour matrix, pictures of at least one of these sides have that of HD (BT.709).
HD_SIZE = (1280, 720)
UNSPECIFIED = 2  # AVCOL_SPC_UNSPECIFIED


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
    clock: Clock

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
        """Seconds from the first frame to the end of the stream; None where the headers are silent, or may be wrong."""
        if self.clock.jumps_s or is_any(self.container, BARE):
            return None
        if self.stream.duration and self.stream.duration > 0:
            return float(self.stream.duration * self.time_base)
        if not self.container.duration or self.container.duration < 0:
            return None
        if (self.container.start_time or 0) / 1e6 >= LATE_S and not is_any(self.container, LEAPING):
            return None
        late_s = float((self.stream.start_time or 0) * self.time_base) - (self.container.start_time or 0) / 1e6
        duration_s = self.container.duration / 1e6 - max(late_s, 0.0)
        return duration_s if duration_s > 0 else None

    def scanned_duration_s(self) -> float:
        """Seconds from the first frame to the end of the last, by reading on to the end without decoding."""
        unread = self.clock.packets(self.container, self.stream)
        spans = [(p.pts, p.duration or 0) for p in unread if p is not None and p.pts is not None]
        if not spans:
            return 0.0
        first, (last, last_ticks) = min(spans)[0], max(spans)
        mean_ticks = (last - first) / (len(spans) - 1) if len(spans) > 1 else 0.0
        duration_s = (last - first + (last_ticks or mean_ticks)) * float(self.time_base)
        whole_s = round(duration_s * self.fps) / self.fps if self.fps else duration_s
        return whole_s if abs(whole_s - duration_s) < 2 * ROUNDING_S else duration_s  # both ends may be rounded


@contextmanager
def open_video(path: str, max_pixels: int) -> Iterator[VideoFile]:
    """Open a local file at its best video stream. The decoder, too, refuses frames of more than ``max_pixels``.

    Raises:
        UnreadableMedia: no container that may be opened.
        NoVideoStream: it holds no video.
        FrameTooLarge: the headers announce frames of more than ``max_pixels``.
    """
    with open_media(path, max_pixels) as container:
        stream = film_stream(container, path)
        if stream is None:
            raise NoVideoStream("the file holds no video stream")
        if stream.width * stream.height > max_pixels:
            raise FrameTooLarge(f"frames of {stream.width} x {stream.height} pixels, the limit is {max_pixels}")
        read_only(container, stream)
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        yield VideoFile(container, stream, read_clock(container, path))


def shown_size(frame: VideoFrame, aspect: Fraction | None) -> tuple[int, int]:
    """Width and height as a viewer sees the frame: upright, with square pixels."""
    width, height = _square_pixels(frame.width, frame.height, aspect)
    return (height, width) if orientation(frame).swapped else (width, height)


def show(frame: VideoFrame, aspect: Fraction | None, time_s: float, max_side: int) -> Frame:
    """The frame as a viewer sees it, RGB, its longer side at most ``max_side`` pixels; never enlarged."""
    from av.video.reformatter import Interpolation

    width, height = _square_pixels(frame.width, frame.height, aspect)
    scale = min(1.0, max_side / max(width, height))
    rgb = frame.reformat(
        width=max(1, round(width * scale)),
        height=max(1, round(height * scale)),
        format="rgb24",
        src_colorspace=colour_matrix(frame),
        # Bit-exact on every machine. Without full chroma the exact path is two levels too dark.
        interpolation=Interpolation.BILINEAR
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.ACCURATE_RND
        | Interpolation.BITEXACT,
        threads=1,
    )
    image: Image = rgb.to_ndarray().astype(np.uint8, copy=False)
    return Frame(time_s, np.ascontiguousarray(orientation(frame).applied(image)))


def on_one_size(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """The frames on the size of the largest of them: enlarged to fit, in the middle of black where shapes differ."""
    from PIL import Image as PillowImage

    height, width = max((frame.image.shape[:2] for frame in frames), key=math.prod)

    def fitted(image: Image) -> Image:
        rows, columns = image.shape[:2]
        if (rows, columns) == (height, width):
            return image
        scale = min(height / rows, width / columns)
        size = (max(1, round(columns * scale)), max(1, round(rows * scale)))
        canvas = PillowImage.new("RGB", (width, height))
        picture = PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR)
        canvas.paste(picture, ((width - size[0]) // 2, (height - size[1]) // 2))
        return np.asarray(canvas)

    return tuple(Frame(frame.time_s, fitted(frame.image)) for frame in frames)


def colour_matrix(frame: VideoFrame) -> int:
    """The matrix from YUV to RGB: the file's own, and where it names none, the one that players take for the size."""
    from av.video.reformatter import Colorspace

    silent = frame.colorspace == UNSPECIFIED and (frame.height >= HD_SIZE[1] or frame.width >= HD_SIZE[0])
    return int(Colorspace.ITU709) if silent else frame.colorspace


@dataclass(frozen=True, slots=True)
class Orientation:
    """What makes a stored picture upright: rows and columns ``swapped`` first, then mirrored."""

    swapped: bool = False
    left_right: bool = False
    upside_down: bool = False

    @property
    def mirrored(self) -> bool:
        """Whether it is more than a turn: writing would read backwards."""
        return self.swapped == (self.left_right == self.upside_down)

    def applied(self, image: Image) -> Image:
        """The image [height, width, 3] upright; a view."""
        if self.swapped:
            image = image.swapaxes(0, 1)
        return image[:: -1 if self.upside_down else 1, :: -1 if self.left_right else 1]


def orientation(frame: VideoFrame) -> Orientation:
    """The orientation that the display matrix asks for; damaged files ask for anything, which counts as none.

    A stored point (x, y) is shown at (a x + c y, b x + d y): ISO 14496-12, 8.2.2.
    """
    side_data: Mapping[str, Any] = frame.side_data
    matrix = bytes(side_data.get("DISPLAYMATRIX") or b"")
    if len(matrix) != struct.calcsize("=9i"):
        return Orientation()
    a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if straight > 100 * max(abs(b), abs(c)):
        return Orientation(False, a < 0, d < 0)
    if crossed > 100 * max(abs(a), abs(d)):
        return Orientation(True, c < 0, b < 0)
    return Orientation()


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
