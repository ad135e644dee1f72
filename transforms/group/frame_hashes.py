"""Frame hashes: what eight moments of a video look like, in 64 bits each, which a re-encoded copy nearly shares.

The hash is that of the lowest frequencies (a DCT's, as in pHash: Zauner 2010): which of them are above the median. The
moments lie at the same shares of every video's length, between two sampled frames where need be: a copy whose frames
were taken at slightly other times has then slightly other pictures, and not the neighbouring ones. All arithmetic is of
integers, so that no machine's rounding decides a bit.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.check import require
from schemas.video import Video
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.media.frame_pack import read_jpegs
from transforms.storage.cache import Cache

# Raise it when the same frames have other hashes than before.
FORMAT = 1
MOMENTS = 8
VIEWS = (1.0, 0.9, 0.8)
"""The whole picture, and its middle: the share of each side that is left. They find copies that were cropped."""
HASH_BYTES = 8 * MOMENTS

_SIDE = 32  # pixels of the picture that is transformed
_LOWEST = 8  # frequencies a side
_FLAT = 8  # grey levels between the darkest and the brightest pixel: below it a hash would be of noise
_STEPS = 256  # between two sampled frames
_COSINES = np.rint(4096 * np.cos(np.pi * np.outer(np.arange(_LOWEST), 2 * np.arange(_SIDE) + 1) / (2 * _SIDE))).astype(
    np.int64
)
_Grey = NDArray[np.int64]  # [views, side, side]


@dataclass(frozen=True, slots=True)
class FrameHashes:
    """The hashes of a video's moments, in order, for each of VIEWS; ``seen`` moments show anything at all.

    The hash of a moment that shows nothing, as in a black picture, is 0.
    """

    views: tuple[bytes, ...]
    seen: int

    def __post_init__(self) -> None:
        require({len(view) for view in self.views} == {HASH_BYTES}, "a view has 64 bits a moment", len(self.views))
        require(0 <= self.seen <= MOMENTS, f"seen must lie in 0 to {MOMENTS}", self.seen)


def frame_hashes(jpegs: Sequence[tuple[float, bytes]], duration_s: float | None) -> FrameHashes:
    """The hashes of a video of this length and these frames: (seconds, JPEG), in time order, at least one.

    One frame stands for all moments. Without a length the last frame is the end.
    """
    times = [time_s for time_s, _ in jpegs]
    length_s = duration_s or times[-1]
    greys: dict[int, _Grey] = {}
    hashes, seen = np.zeros((MOMENTS, len(VIEWS), 8), np.uint8), 0
    for moment in range(MOMENTS):
        left, right, step = _between(times, (moment + 0.5) / MOMENTS * length_s)
        for place in (left, right):
            if place not in greys:
                greys[place] = _grey(jpegs[place][1])
        picture = greys[left] * (_STEPS - step) + greys[right] * step
        if picture[0].max() - picture[0].min() >= _FLAT * _STEPS:
            seen += 1
            hashes[moment] = _hash(picture)
    return FrameHashes(tuple(hashes[:, view].tobytes() for view in range(len(VIEWS))), seen)


def _between(times: Sequence[float], time_s: float) -> tuple[int, int, int]:
    """The frames before and after a time, and how near it is to the later one, in _STEPS."""
    right = min(bisect_left(times, time_s), len(times) - 1)
    left = max(right - 1, 0)
    gap_s = times[right] - times[left]
    share = min(1.0, max(0.0, (time_s - times[left]) / gap_s)) if gap_s else 1.0
    return left, right, round(share * _STEPS)


def _grey(jpeg: bytes) -> _Grey:
    with Image.open(io.BytesIO(jpeg)) as file:
        file.draft("L", (2 * _SIDE, 2 * _SIDE))  # decodes no more than is needed
        picture = file.convert("L")
    width, height = picture.size
    views = []
    for share in VIEWS:
        x, y = (side * (1 - share) / 2 for side in (width, height))
        small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, (x, y, width - x, height - y))
        views.append(np.asarray(small, np.int64))
    return np.stack(views)


def _hash(pictures: _Grey) -> NDArray[np.uint8]:
    """[views, 8] bytes; the mean brightness is no frequency, and its bit is 0."""
    spectrum = (_COSINES @ pictures @ _COSINES.T).reshape(len(pictures), -1)
    bits = spectrum > np.median(spectrum[:, 1:], axis=1, keepdims=True)
    bits[:, 0] = False
    return np.packbits(bits, axis=1)


def hash_video(video: Video, cache: Cache, journal: Journal) -> FrameHashes | None:
    """The frame hashes of a video, from its frame pack or the journal; None of one without pictures.

    Raises:
        Deferred: this journal only looks, and does not hold them.
        CacheFailed: the frame pack cannot be read, or the hashes cannot be recorded.
    """
    if video.frame_pack is None:
        return None
    pack, duration_s = video.frame_pack, video.media.duration_s

    def work() -> FrameHashes:
        with cache.reading(pack) as path:
            return frame_hashes(read_jpegs(path), duration_s)

    inputs = {"frames": pack, "duration_s": str(duration_s)}
    key = step_key("frame_hashes", video.uri, None, {"format": str(FORMAT)}, inputs)
    return journal.once(key, work, FrameHashes)
