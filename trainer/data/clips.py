"""Frames of videos by id, decoded from the JPEGs in the shards to the size that the model sees."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from schemas.video import grid_size, spread
from trainer.data.shards import DataError, Shards

_COLUMNS = ("video_id", "frame_times_s", "frames")


@dataclass(frozen=True, slots=True)
class FrameBudget:
    """The most a video is given: ``frames`` frames of ``max_pixels`` pixels; sides are multiples of ``multiple``."""

    frames: int
    max_pixels: int
    multiple: int = 1

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size in pixels of a frame of (width, height): itself where it fits, else the nearest on the grid."""
        if width * height <= self.max_pixels and width % self.multiple == height % self.multiple == 0:
            return width, height
        return grid_size(width, height, self.max_pixels, self.multiple)


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames of a video: (frames, height, width, 3) in RGB, and the time of each in seconds."""

    frames: npt.NDArray[np.uint8]
    times_s: tuple[float, ...]

    @property
    def sample_fps(self) -> float:
        """Frames a second on average; 1 where all frames are of one moment."""
        span = self.times_s[-1] - self.times_s[0]
        return (len(self.times_s) - 1) / span if span > 0 else 1.0


class Clips:
    """The videos of an output that have frames, by id; only the ids are held in memory."""

    def __init__(self, shards: Shards, budget: FrameBudget) -> None:
        self._shards = shards
        self._budget = budget
        self._where: dict[str, tuple[str, int, int]] = {}
        for path in shards.paths("videos"):
            # Times stand for frames here: a video has as many of both, and reading times reads no pixels.
            found = shards.columns(path, ("video_id", "frame_times_s")).to_pydict()
            places = [(group, row) for group, size in enumerate(shards.group_sizes(path)) for row in range(size)]
            for video_id, times, place in zip(found["video_id"], found["frame_times_s"], places, strict=True):
                if times:
                    self._where[video_id] = (path, *place)

    def __len__(self) -> int:
        return len(self._where)

    def __iter__(self) -> Iterator[str]:
        """Their ids, in the order in which the shards hold them."""
        return iter(self._where)

    def __contains__(self, video_id: object) -> bool:
        return video_id in self._where

    def in_order(self, video_ids: Collection[str]) -> Iterator[str]:
        """Those of the videos that have frames, in the order in which the shards hold them: each is read once."""
        return (video_id for video_id in self._where if video_id in video_ids)

    def __getitem__(self, video_id: str) -> Clip:
        """The frames of a video within the budget, evenly spread over those that are stored.

        Raises:
            DataError: the video has no frames, or one of them cannot be decoded.
        """
        if video_id not in self._where:
            raise DataError(f"video {video_id!r} has no frames in {self._shards.root}")
        path, group, row = self._where[video_id]
        stored = self._shards.group(path, group, _COLUMNS).slice(row, 1).to_pylist()[0]
        chosen = spread(len(stored["frames"]), self._budget.frames)
        try:
            images = [stored["frames"][i]["bytes"] for i in chosen]
            size = self._budget.size(*_size(images[0]))
            frames = [_decode(image, size) for image in images]
        except OSError as error:
            raise DataError(f"video {video_id!r} in {self._shards.root}/{path}: {error}") from error
        return Clip(np.stack(frames), tuple(stored["frame_times_s"][i] for i in chosen))


def _size(jpeg: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.size


def _decode(jpeg: bytes, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A frame at the size that all of its video are given."""
    with Image.open(io.BytesIO(jpeg)) as image:
        picture = image.convert("RGB")
    return np.asarray(picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC))
