"""Frames through PyAV: exact by default, or the nearest keyframes for a fraction of the work."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from schemas.video import EngineStamp, EvidenceWarning
from transforms.media.clock import clock_warnings
from transforms.media.container import FrameTooLarge, UndecodableVideo
from transforms.media.frame_reader import Decoded, FrameReader
from transforms.media.video_stream import ROUNDING_S, VideoFile, open_video, show, shown_size, target_times
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Frame, FramePolicy, SampledFrames

Precision = Literal["exact", "keyframe"]


@dataclass(frozen=True)
class PyAv:
    """Options of the PyAV sampler.

    ``precision`` "exact" takes the frame that is shown at each target time; "keyframe" takes the nearest keyframe
    where one lies within half the spacing of the targets, which is enough for an overview of a long video.
    """

    requires: ClassVar[tuple[str, ...]] = ("av",)
    extra: ClassVar[str] = "embedded"

    precision: Precision = "exact"

    def load(self) -> PyAvSampler:
        """The sampler; it keeps nothing between files."""
        return PyAvSampler(self.precision)

    def stamp(self) -> EngineStamp:
        """PyAV's version, which fixes FFmpeg's."""
        return stamp_of(self, "pyav", "av")


class PyAvSampler:
    """A sampler; transforms/media/frame_reader.py says how frames are found."""

    def __init__(self, precision: Precision = "exact") -> None:
        self._precision = precision

    def sample(self, path: str, policy: FramePolicy) -> SampledFrames:
        """Frames at ``target_times``; fewer where targets share a frame or the file ends before its headers say.

        Raises:
            UnreadableMedia, NoVideoStream, FrameTooLarge: refused before anything was decoded.
            UndecodableVideo: not one frame could be decoded.
        """
        from av.error import FFmpegError

        try:
            with open_video(path, policy.max_pixels) as video:
                duration_s = video.declared_duration_s
                if duration_s is not None:
                    return self._sample(video, duration_s, policy)
                duration_s = video.scanned_duration_s()
            with open_video(path, policy.max_pixels) as video:
                return self._sample(video, duration_s, policy)
        except FFmpegError as error:
            raise UndecodableVideo(f"the video stream cannot be decoded ({error.strerror})") from error

    def _sample(self, video: VideoFile, duration_s: float, policy: FramePolicy) -> SampledFrames:
        reader = FrameReader(video)
        first = reader.first()
        if first is None and video.stream.width == 0:  # FFmpeg's own look at the first frame was refused, too
            raise FrameTooLarge(f"frames of more than {policy.max_pixels} pixels, or too damaged to tell their size")
        if first is None:
            raise UndecodableVideo(f"not one video frame can be decoded ({reader.damaged} damaged packets)")
        origin, tick = first.pts, video.time_base
        times = target_times(duration_s, policy)
        half_spacing = int(duration_s / len(times) / 2 / tick)

        sizes = [shown_size(first.frame, video.aspect)]
        shown: dict[int, Frame] = {}  # by timestamp, because targets may share a frame
        warnings: list[EvidenceWarning] = []
        for time_s in times:
            target = origin + int(Fraction(time_s) / tick)
            found = reader.keyframe_near(target, half_spacing) if self._precision == "keyframe" else None
            found = found or _shown_at(origin + int(Fraction(time_s + ROUNDING_S) / tick), reader, video)
            if found is None:
                message = f"the headers promise {duration_s:.1f} s, but nothing is shown after {time_s:.1f} s"
                warnings.append(EvidenceWarning("decode", "truncated", message))
                duration_s = time_s
                break
            if found.pts not in shown:
                # In damaged files a frame may claim to come before the first.
                shown_s = max(float((found.pts - origin) * tick), 0.0)
                shown[found.pts] = show(found.frame, video.aspect, shown_s, policy.max_side)
                sizes.append(shown_size(found.frame, video.aspect))
        if not shown:
            shown[origin] = show(first.frame, video.aspect, 0.0, policy.max_side)
        if reader.damaged or reader.flawed:
            message = f"{reader.damaged} packets of the video could not be decoded"
            if reader.flawed:
                message += f", {reader.flawed} pictures only in part"
            warnings.append(EvidenceWarning("decode", "damaged packets", message))
        warnings.extend(clock_warnings(video.clock, float(origin * tick)))
        width, height = max(sizes, key=math.prod)
        return SampledFrames(
            frames=tuple(sorted(shown.values(), key=lambda frame: frame.time_s)),
            container=video.container_name,
            codec=video.codec,
            width=width,
            height=height,
            fps=video.fps,
            duration_s=duration_s,
            warnings=tuple(warnings),
            origin_s=float(origin * tick),
        )


def _shown_at(target: int, reader: FrameReader, video: VideoFile) -> Decoded | None:
    """The frame on show at ``target``; the stream's last one counts for two frame times, or for as long as it says."""
    found = reader.at(target)
    if found is None or not reader.ended:
        return found
    frame_s = Fraction(1) / video.stream.average_rate if video.stream.average_rate else Fraction(1, 25)
    late_s = (target - found.pts) * video.time_base
    return found if late_s <= max(2 * frame_s, (found.frame.duration or 0) * video.time_base) else None
