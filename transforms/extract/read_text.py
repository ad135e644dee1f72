"""On-screen text: from the frames of a video to lines of text with times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from schemas.video import Evidence, Video
from transforms.extract.attempt import attempt
from transforms.extract.decode import Limits
from transforms.extract.recognize import Lines, read_pack
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.protocols.engine import Engine
from transforms.storage.cache import Cache
from transforms.workers.child_model import run_with_model
from transforms.workers.recorded import WORK, recorded_map

# Raise it when the same frames and engine give other lines than before, as with another rule for merging them.
FORMAT = 1


@dataclass
class ReadText(beam.PTransform):
    """Videos -> the same ("videos") with the lines of text that they show, or a warning that says why not; and WORK.

    Reading runs in a child process, which is killed at the limit for a video of that length.
    """

    engine: Engine
    cache: Cache
    journal: Journal
    limits: Limits
    workers: int = 1

    def expand(self, videos: beam.PCollection[Video]) -> Any:
        options = (self.engine, self.cache, self.journal, self.limits, self.workers)
        step = recorded_map(self.journal, None, _with_text, *options)
        return videos | "Read text" >> step.with_outputs(WORK, main="videos")


def _with_text(video: Video, *options: Any) -> Iterator[Video]:
    yield read_video_text(video, *options)


def read_video_text(
    video: Video, engine: Engine, cache: Cache, journal: Journal, limits: Limits, workers: int = 1
) -> Video:
    """The video with its OCR evidence, or a warning in its place; one without pictures is returned as it is.

    A model that cannot be loaded is an error, since it would fail on every video.
    """
    if video.frame_pack is None:
        return video
    frames, limit = video.frame_pack, limits.for_media(video.media.duration_s or 0.0)

    def extract() -> Lines:
        with cache.reading(frames) as path:
            return run_with_model(read_pack, engine, path, limit=limit, workers=workers)

    def put(lines: Lines) -> Evidence:
        return replace(video.evidence, ocr=lines)

    key = step_key("ocr", video.uri, engine.stamp(), {"format": str(FORMAT)}, {"frames": frames})
    return attempt(video, key, journal, extract, Lines, put)
