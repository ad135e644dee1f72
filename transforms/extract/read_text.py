"""On-screen text: reads the frames that show something new, and merges the readings into lines with times."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

import apache_beam as beam
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from schemas.video import Box, Evidence, OcrLine, Video
from schemas.visible import one_line
from transforms.engines.text_boxes import reading_order
from transforms.extract.attempt import attempt
from transforms.extract.decode import Limits
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.media.frame_pack import read_frame_pack
from transforms.protocols.engine import Engine, loaded
from transforms.protocols.frames import Frame, Image
from transforms.protocols.screen_text import TextBox, TextReader
from transforms.storage.cache import Cache
from transforms.workers.child_model import run_with_model
from transforms.workers.engine_at_work import engine_at_work
from transforms.workers.recorded import WORK, recorded_map

Lines = tuple[OcrLine, ...]

# Raise it when the same frames and engine give other lines than before, as with another rule for merging them.
FORMAT = 1
_THUMBNAIL = (320, 180)  # width, height
_TILE = 20  # pixels of the thumbnail
_CHANGED = 8.0  # grey levels, mean over a tile: above a moving cursor, below a new word on a slide
_SIMILAR = 0.85  # of the characters: one wrong letter in seven
_SAME_PLACE = 0.5  # intersection over union
_MISSES = 1  # readings in a row that may miss a line before it counts as gone


def standing_in(images: Sequence[Image]) -> list[int]:
    """For each image the index of the one whose reading serves for it: its own, or that of the last one to be read.

    An image is not read when it looks like the last one that was: no 20 x 20 tile of its 320 x 180 grey thumbnail
    differs by more than 8 grey levels on average. On lecture video this saves five readings in six.
    """
    sources: list[int] = []
    last: NDArray[np.float32] | None = None
    for index, image in enumerate(images):
        grey: NDArray[np.float32] = np.asarray(
            PillowImage.fromarray(image).convert("L").resize(_THUMBNAIL), dtype=np.float32
        )
        if last is None or _largest_tile_difference(grey, last) > _CHANGED:
            sources.append(index)
            last = grey
        else:
            sources.append(sources[-1])
    return sources


def _largest_tile_difference(left: NDArray[np.float32], right: NDArray[np.float32]) -> float:
    rows, columns = left.shape[0] // _TILE, left.shape[1] // _TILE
    tiles = np.abs(left - right).reshape(rows, _TILE, columns, _TILE)
    return float(tiles.mean(axis=(1, 3)).max())


@dataclass
class _Track:
    """A line being followed: its best reading so far, and the reading (counted from 0) that saw it last."""

    time_s: float
    last_s: float
    seen: int
    latest: TextBox
    best: TextBox


def merge_lines(readings: Sequence[tuple[float, Sequence[TextBox]]]) -> Lines:
    """The lines that the readings, (time in seconds, text boxes) in time order, show between them.

    A line goes on from one reading to the next, over at most one reading that misses it, when its folded text is
    equal, or similar (0.85) at the same place (0.5 intersection over union) with the same digits: scores, dates and
    slide numbers tell lines apart. The most confident reading, the first of equals, gives text, box and confidence.
    Lines are ordered by first time, then in reading order.
    """
    tracks: list[_Track] = []
    for index, (time_s, found) in enumerate(readings):
        boxes = reading_order(replace(box, text=text) for box in found if (text := one_line(box.text)))
        going_on = [track for track in tracks if track.seen >= index - 1 - _MISSES]
        continued = _continued(boxes, going_on)
        for number, box in enumerate(boxes):
            track = continued.get(number)
            if track is None:
                tracks.append(_Track(time_s, time_s, index, box, box))
            else:
                track.last_s, track.seen, track.latest = time_s, index, box
                track.best = max(track.best, box, key=lambda b: b.confidence)
    return tuple(OcrLine(t.time_s, t.last_s, t.best.text, t.best.box, t.best.confidence) for t in tracks)


def _continued(boxes: Sequence[TextBox], tracks: Sequence[_Track]) -> dict[int, _Track]:
    """Which track each box (by index) continues: equal texts first, the better overlap first, each at most once."""
    pairs = []
    for b, box in enumerate(boxes):
        for t, track in enumerate(tracks):
            overlap, equal = _overlap(box.box, track.latest.box), _folded(box.text) == _folded(track.latest.text)
            if equal or (overlap >= _SAME_PLACE and _similar(box.text, track.latest.text)):
                pairs.append((not equal, -overlap, b, t))
    continued: dict[int, _Track] = {}
    taken: set[int] = set()
    for _, _, b, t in sorted(pairs):
        if b not in continued and t not in taken:
            continued[b] = tracks[t]
            taken.add(t)
    return continued


def _folded(text: str) -> str:
    """``text`` as far as OCR can be trusted with it: without case, width, spaces and punctuation."""
    compatible = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in compatible if c.isalnum()) or compatible


def _similar(left: str, right: str) -> bool:
    left, right = _folded(left), _folded(right)
    same_digits = [c for c in left if c.isdigit()] == [c for c in right if c.isdigit()]
    return same_digits and SequenceMatcher(None, left, right, autojunk=False).ratio() >= _SIMILAR


def _overlap(left: Box, right: Box) -> float:
    """Intersection over union."""
    width = min(left.right, right.right) - max(left.left, right.left)
    height = min(left.bottom, right.bottom) - max(left.top, right.top)
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(b.right - b.left) * (b.bottom - b.top) for b in (left, right)]
    return width * height / (sum(areas) - width * height)


def read_text(engine: Engine, frames: Sequence[Frame]) -> Lines:
    """The lines of text that ``frames`` (time order) show; frames that look alike are read once.

    Raises:
        EngineFailed: the engine raised an error on these frames.
    """
    reader: TextReader = loaded(engine)
    images = [frame.image for frame in frames]
    sources = standing_in(images)
    to_read = sorted(set(sources))
    with engine_at_work():
        found = dict(zip(to_read, reader.read([images[index] for index in to_read]), strict=True))
    return merge_lines([(frame.time_s, found[source]) for frame, source in zip(frames, sources, strict=True)])


def _read_pack(engine: Engine, path: str) -> Lines:
    return read_text(engine, read_frame_pack(path))


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
            return run_with_model(_read_pack, engine, path, limit=limit, workers=workers)

    def put(lines: Lines) -> Evidence:
        return replace(video.evidence, ocr=lines)

    key = step_key("ocr", video.uri, engine.stamp(), {"format": str(FORMAT)}, {"frames": frames})
    return attempt(video, key, journal, extract, Lines, put)
