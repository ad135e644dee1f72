"""Frames through decord where it is known to be exact, and through PyAV everywhere else."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from schemas.video import EngineStamp, EvidenceWarning
from transforms.engines.pyav import PyAvSampler
from transforms.media.container import MediaError
from transforms.media.frame_reader import FrameReader
from transforms.media.video_stream import (
    ROUNDING_S,
    VideoFile,
    colour_matrix,
    has_square_pixels,
    open_video,
    orientation,
    target_times,
)
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Frame, FramePolicy, Image, SampledFrames

# Elsewhere decord 0.6.0 loses frames (MPEG-TS, AVI, WMV), cannot decode (AV1) or fails (no declared duration).
CONTAINERS = {"mov", "mp4", "matroska", "webm"}
CODECS = {"h264", "hevc", "vp8", "vp9"}


class NotForDecord(ValueError):
    """A file that decord is known to read wrongly, or that it read otherwise than its headers say."""


@dataclass(frozen=True)
class Decord:
    """The decord sampler; it has no options."""

    requires: ClassVar[tuple[str, ...]] = ("av", "decord")
    extra: ClassVar[str] = "decord"

    def load(self) -> DecordSampler:
        """The sampler; it keeps nothing between files."""
        import decord

        decord.logging.set_level(decord.logging.QUIET)
        return DecordSampler()

    def stamp(self) -> EngineStamp:
        """decord's version, and PyAV's, which decodes the sound and what decord cannot."""
        return stamp_of(self, "decord", "decord", model=f"with PyAV {version('av')}")


class DecordSampler:
    """A sampler. Each call opens its own reader, because a reader that threads share aborts the process."""

    def sample(self, path: str, policy: FramePolicy) -> SampledFrames:
        """Frames at ``target_times``, taken by decord or, with a warning that says why, by PyAV.

        Raises:
            UnreadableMedia, NoVideoStream, FrameTooLarge, UndecodableVideo: as PyAvSampler.
        """
        try:
            with open_video(path, policy.max_pixels) as video:
                return _sample(path, video, policy)
        except MediaError:
            raise
        except Exception as error:  # noqa: BLE001 - decord raises anything from RuntimeError to MemoryError
            sampled = PyAvSampler().sample(path, policy)
            # decord's own messages carry the time of day, which has no place in a row.
            why = str(error) if isinstance(error, NotForDecord) else f"decord failed ({type(error).__name__})"
            warning = EvidenceWarning("decode", "decord fallback", f"sampled by PyAV: {why}")
            return replace(sampled, warnings=(*sampled.warnings, warning))


def _sample(path: str, video: VideoFile, policy: FramePolicy) -> SampledFrames:
    import decord

    duration_s = video.declared_duration_s
    if not CONTAINERS & set(video.container_name.split(",")) or video.codec not in CODECS:
        raise NotForDecord(f"decord is not exact on {video.codec} in {video.container_name}")
    if duration_s is None or not has_square_pixels(video.aspect):
        raise NotForDecord("decord needs a declared duration and square pixels")
    _require_plain(video)
    reader = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
    starts = reader.get_frame_timestamp(range(len(reader)))[:, 0].tolist()  # float32 seconds from the first frame
    if abs(starts[0]) > ROUNDING_S or starts != sorted(starts):
        raise NotForDecord("decord ignores the file's edit list")

    indices = sorted({bisect_right(starts, t + ROUNDING_S) - 1 for t in target_times(duration_s, policy)})
    tick = video.time_base
    frames = []
    for index in indices:
        image = reader[index].asnumpy()  # upright already
        height, width, channels = image.shape
        if channels != 3:  # of pictures narrower than its row alignment it returns the padding
            raise NotForDecord(f"decord returned {channels} channels")
        frames.append(Frame(float(round(starts[index] / tick) * tick), _shrunk(image, policy.max_side)))
    return SampledFrames(
        frames=tuple(frames),
        container=video.container_name,
        codec=video.codec,
        width=width,
        height=height,
        fps=video.fps,
        duration_s=duration_s,
        origin_s=float((video.stream.start_time or 0) * tick),
    )


def _require_plain(video: VideoFile) -> None:
    """Raise ``NotForDecord`` for pictures that decord would show in another way than players do."""
    if video.stream is not video.container.streams.best("video"):
        raise NotForDecord("decord takes another of the file's streams")
    first = FrameReader(video).first()
    if first is None:
        raise NotForDecord("no frame can be decoded to tell how it is shown")
    if orientation(first.frame).mirrored:
        raise NotForDecord("decord does not mirror")
    if colour_matrix(first.frame) != first.frame.colorspace:
        raise NotForDecord("decord takes untagged HD colours for those of SD")


def _shrunk(image: Image, max_side: int) -> Image:
    """The image with its longer side at most ``max_side`` pixels; never enlarged."""
    from PIL import Image as PillowImage

    height, width = image.shape[:2]
    scale = min(1.0, max_side / max(width, height))
    if scale == 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BILINEAR))
