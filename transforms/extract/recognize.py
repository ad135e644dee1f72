"""Recognising speech and on-screen text in files of the cache: the part of both that runs in a child process."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from schemas.video import AsrSegment, Box, OcrLine
from schemas.visible import one_line
from transforms.engines.ocr.text_boxes import reading_order
from transforms.media.audio import read_windows
from transforms.media.container import MediaError
from transforms.media.frame_pack import read_frame_pack
from transforms.media.vad import Speech, speech_spans
from transforms.protocols.engine import Engine, loaded
from transforms.protocols.frames import Frame, Image
from transforms.protocols.screen_text import TextBox, TextReader
from transforms.protocols.speech import Samples, SpeechRecognizer
from transforms.storage.cache_failed import CacheFailed
from transforms.workers.engine_at_work import engine_at_work

Segments = tuple[AsrSegment, ...]
Lines = tuple[OcrLine, ...]

_GROUP = 32  # spans handed to the recogniser at once, 30 MB at most; it makes its own batches of them
_THUMBNAIL = (320, 180)  # width, height
_TILE = 20  # pixels of the thumbnail
_CHANGED = 8.0  # grey levels, mean over a tile: above a moving cursor, below a new word on a slide
_SIMILAR = 0.85  # of the characters: one wrong letter in seven
_SAME_PLACE = 0.5  # intersection over union
_MISSES = 1  # readings in a row that may miss a line before it counts as gone


def transcribe(engine: Engine, audio_path: str) -> Segments:
    """The speech in a FLAC file, in time order; seconds from the start of the file, which is the first video frame.

    Raises:
        EngineFailed: the engine raised an error on this sound track.
        CacheFailed: the file cannot be read.
    """
    recognizer: SpeechRecognizer = loaded(engine)
    with engine_at_work():
        segments = list(_segments(recognizer, speech_spans(_sound(audio_path))))
    return tuple(sorted(segments, key=lambda segment: (segment.start_s, segment.end_s, segment.text)))


def _sound(path: str) -> Iterator[Samples]:
    """The windows of a cached file, which was whole when it was written: that it is not now is no engine's doing."""
    from av.error import FFmpegError

    try:
        yield from read_windows(path)
    except (OSError, MediaError, FFmpegError) as error:
        raise CacheFailed(f"cannot read {path} in the cache: {type(error).__name__}: {error}") from error


def _segments(recognizer: SpeechRecognizer, spans: Iterator[Speech]) -> Iterator[AsrSegment]:
    while group := tuple(islice(spans, _GROUP)):
        found = recognizer.recognize([span.samples for span in group])
        for span, segments in zip(group, found, strict=True):
            for segment in segments:
                if text := one_line(segment.text):
                    start_s, end_s = span.start_s + segment.start_s, span.start_s + segment.end_s
                    yield AsrSegment(round(start_s, 3), round(end_s, 3), text, segment.confidence)


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


def read_pack(engine: Engine, path: str) -> Lines:
    """The lines of text in the frames of a pack, as ``read_text``."""
    return read_text(engine, read_frame_pack(path))
