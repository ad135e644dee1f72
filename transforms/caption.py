"""Captions: gives a captioner some frames of each video, evenly spread, and takes down what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import apache_beam as beam

from schemas.video import Video
from transforms.cache import Cache
from transforms.engines import loaded
from transforms.engines.protocols import Captioner, Engine, Frame
from transforms.frame_grid import spread
from transforms.frame_pack import read_frame_pack
from transforms.partial import EngineFailed, attempt, engine_at_work
from transforms.text import one_line


def caption(engine: Engine, frames: Sequence[Frame]) -> str:
    """What the captioner says of the frames (time order, at least one), on one line.

    Raises:
        EngineFailed: the captioner raised an error, or said nothing.
    """
    captioner: Captioner = loaded(engine)
    with engine_at_work():
        said = one_line(captioner.caption(frames))
    if not said:
        raise EngineFailed("the captioner said nothing")
    return said


@dataclass
class CaptionFrames(beam.PTransform):
    """Videos -> the same videos with a caption, or with a warning that says why there is none.

    Captioners run in this process, not in a child: they see only frames that we wrote ourselves, and one that talks to
    a server must share its connections and its rate limit with the other threads.
    """

    engine: Engine
    cache: Cache
    max_frames: int = 16

    def expand(self, videos: beam.PCollection[Video]) -> beam.PCollection[Video]:
        return videos | "Caption frames" >> beam.Map(caption_video, self.engine, self.cache, self.max_frames)


def caption_video(video: Video, engine: Engine, cache: Cache, max_frames: int = 16) -> Video:
    """The video with its caption, or a warning in its place; one without pictures is returned as it is."""
    if video.frame_pack is None:
        return video
    with cache.reading(video.frame_pack) as path:
        frames = read_frame_pack(path)
    frames = [frames[index] for index in spread(len(frames), max_frames)]
    return attempt(video, "caption", engine, lambda: replace(video.evidence, caption=caption(engine, frames)))
