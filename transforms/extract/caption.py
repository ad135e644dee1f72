"""Captions: gives a captioner some frames of each video, evenly spread, and takes down what it says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from schemas.video import Evidence, Video, spread
from schemas.visible import one_line
from transforms.extract.attempt import attempt
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.media.frame_pack import read_frame_pack
from transforms.protocols.caption import Caption, Captioner
from transforms.protocols.engine import Engine, loaded
from transforms.protocols.frames import Frame
from transforms.storage.cache import Cache
from transforms.workers.engine_at_work import EngineFailed, engine_at_work
from transforms.workers.recorded import WORK, recorded_map

# Raise it when a captioner is given other frames of the same pack than before, or its words are cleaned otherwise.
FORMAT = 1


def caption(engine: Engine, frames: Sequence[Frame]) -> Caption:
    """What the captioner says of the frames (time order, at least one), on one line.

    Raises:
        EngineFailed: the captioner raised an error, or said nothing.
    """
    captioner: Captioner = loaded(engine)
    with engine_at_work():
        said = captioner.caption(frames)
    if not (text := one_line(said.text)):
        raise EngineFailed("the captioner said nothing", usage=said.usage)
    return replace(said, text=text)


@dataclass
class CaptionFrames(beam.PTransform):
    """Videos -> the same ("videos") with a caption, or with a warning that says why there is none; and WORK.

    Captioners run in this process, not in a child: they see only frames that we wrote ourselves, and one that talks to
    a server must share its connections and its rate limit with the other threads.
    """

    engine: Engine
    cache: Cache
    journal: Journal
    max_frames: int = 16

    def expand(self, videos: beam.PCollection[Video]) -> Any:
        options = (self.engine, self.cache, self.journal, self.max_frames)
        step = recorded_map(self.journal, self.engine, _captioned, *options)
        return videos | "Caption frames" >> step.with_outputs(WORK, main="videos")


def _captioned(video: Video, engine: Engine, cache: Cache, journal: Journal, max_frames: int) -> Iterator[Video]:
    yield caption_video(video, engine, cache, journal, max_frames)


def caption_video(video: Video, engine: Engine, cache: Cache, journal: Journal, max_frames: int = 16) -> Video:
    """The video with its caption, or a warning in its place; one without pictures is returned as it is."""
    if video.frame_pack is None:
        return video
    pack = video.frame_pack

    def extract() -> Caption:
        with cache.reading(pack) as path:
            frames = read_frame_pack(path)
        return caption(engine, [frames[index] for index in spread(len(frames), max_frames)])

    def put(said: Caption) -> Evidence:
        return replace(video.evidence, caption=said.text)

    settings = {"format": str(FORMAT), "max_frames": str(max_frames)}
    key = step_key("caption", video.uri, engine.stamp(), settings, {"frames": pack})
    return attempt(video, key, journal, extract, Caption, put)
