"""A captioner without a model: tells shots, colours, shapes, brightness and movement, and nothing it cannot measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from schemas.video import EngineStamp
from transforms.engines.stand_ins.colours import colour_names, named
from transforms.engines.stand_ins.shapes import PLAIN_FORMS, find_shapes, place
from transforms.protocols.caption import Caption
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Frame, Image

_REVISION = "describer 1"  # raise it when the same frames would get other words
_SIDE = 128  # longer side of the thumbnails that are described, pixels
_COARSE = (16, 9)  # columns and rows of the thumbnails that are compared to find cuts
_CUT_DIFFERENCE = 36.0  # grey levels between coarse thumbnails
_CUT_COLOURS = 0.3  # share of the pixels that change the name of their colour
_MOST_SHOTS = 3  # that are described
_MOST_SHAPES = 3  # that are described in a shot
_BUSIEST = 0.4  # of all change: what a ninth of the picture must hold to be named
_LEAP = 0.3  # of the frame's side between two frames: too far to call it one shape
_GROWN = 1.4  # times its area: a shape that grows
_MOVED = 0.08  # of the frame's side: where a shape must go to be said to move

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_BRIGHTNESS = ((30, "very dark"), (80, "dark"), (150, "medium bright"), (205, "bright"), (np.inf, "very bright"))
_DETAIL = ((3, "flat"), (8, "moderately detailed"), (np.inf, "finely detailed"))
_MOVEMENT = ((1, "still"), (4, "slight"), (12, "moderate"), (np.inf, "strong"))

Thumbnails = NDArray[np.uint8]  # [n, height, width, 3]


@dataclass(frozen=True)
class Pixels:
    """No options: the same frames always get the same words."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "embedded"

    def load(self) -> PixelDescriber:
        """There is nothing to load."""
        return PixelDescriber()

    def stamp(self) -> EngineStamp:
        """Name, version and revision of the rules."""
        return stamp_of(self, "pixels", "", _REVISION)


class PixelDescriber:
    """Rules as a ``Captioner``."""

    def caption(self, frames: Sequence[Frame]) -> Caption:
        """Two to four sentences: the video as a whole, then its longest shots, at most three, in time order."""
        thumbnails = _thumbnails([frame.image for frame in frames])
        shots = split_shots(thumbnails)
        longest = sorted(sorted(shots, key=len, reverse=True)[:_MOST_SHOTS], key=lambda shot: shot.start)
        described = [_describe_shot(thumbnails[shot.start : shot.stop]) for shot in longest]
        if len(described) > 1:
            openings = ["first", *["then"] * (len(described) - 2), "last"]
            described = [f"{opening}, {text}" for opening, text in zip(openings, described, strict=True)]
        sentences = [_overview(thumbnails, shots), *described]
        return Caption(" ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences))


def _thumbnails(images: Sequence[Image]) -> Thumbnails:
    """All images at the size that the first one has when its longer side is brought to 128 pixels."""
    height, width = images[0].shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.stack([_resized(image, size) for image in images])


def _resized(image: Image, size: tuple[int, int]) -> Image:
    return np.asarray(PillowImage.fromarray(image).resize(size, PillowImage.Resampling.BOX))


def split_shots(thumbnails: Thumbnails) -> list[range]:
    """Runs of frames without a cut between them; a cut changes both the picture and the names of its colours."""
    coarse = [_resized(image, _COARSE).astype(np.float32) for image in thumbnails]
    shares = [_colour_shares(image) for image in thumbnails]
    cuts = [
        index
        for index in range(1, len(thumbnails))
        if np.abs(coarse[index] - coarse[index - 1]).mean() > _CUT_DIFFERENCE
        and np.abs(shares[index] - shares[index - 1]).sum() / 2 > _CUT_COLOURS
    ]
    return [range(start, stop) for start, stop in zip([0, *cuts], [*cuts, len(thumbnails)], strict=True)]


def _overview(thumbnails: Thumbnails, shots: Sequence[range]) -> str:
    number = _NUMBERS[len(shots)] if len(shots) < len(_NUMBERS) else "many"
    shares = np.mean([_colour_shares(image) for image in thumbnails], axis=0)
    common = _listed(_common_colours(shares, least=0.06, most=4)) or "many colours"
    return f"{number} {'shot' if len(shots) == 1 else 'shots'}, {_look(thumbnails)}, mostly {common}"


def _describe_shot(thumbnails: Thumbnails) -> str:
    """Layout and shapes of the middle frame, and what moves between the frames; without the full stop."""
    middle = named(thumbnails[len(thumbnails) // 2])
    background, layout = _layout(middle)
    shapes = [
        f"{_a(colour_names()[shape.colour])} {shape.form} at the {place(*shape.centre)}"
        for shape in find_shapes(middle, background)[:_MOST_SHAPES]
    ]
    return f"{layout}{' with ' if shapes else ''}{_listed(shapes)}; {_movement(thumbnails)}"


def _layout(names: NDArray[np.uint8]) -> tuple[frozenset[int], str]:
    """The colours that make the background, and its words: one colour, one above or beside another, or a mixture."""
    height, width = names.shape
    whole = _most_common(names)
    if whole[1] > 0.5:
        return frozenset({whole[0]}), f"{_a(colour_names()[whole[0]])} background"
    for first, second, word in (
        (names[: height // 2], names[-(height // 2) :], "above"),
        (names[:, : width // 2], names[:, -(width // 2) :], "to the left of"),
    ):
        one, other = _most_common(first), _most_common(second)
        if one[0] != other[0] and min(one[1], other[1]) > 0.4:
            return frozenset({one[0], other[0]}), f"{colour_names()[one[0]]} {word} {colour_names()[other[0]]}"
    shares = np.bincount(names.ravel(), minlength=len(colour_names())) / names.size
    return frozenset(), f"a mixture of {_listed(_common_colours(shares, least=0.08, most=3)) or 'many colours'}"


def _movement(thumbnails: Thumbnails) -> str:
    """How much changes from frame to frame, where, and which way the largest shape goes."""
    grey = thumbnails.mean(axis=3, dtype=np.float32)
    changes = np.abs(np.diff(grey, axis=0))
    amount = _level(float(changes.mean()), _MOVEMENT) if len(changes) else "still"
    if amount == "still":
        return "still picture"
    return f"{amount} movement{_where(changes.mean(axis=0))}{_heading(thumbnails)}"


def _where(change: NDArray[np.float32]) -> str:
    """The ninth of the picture that holds much of the change, if one does."""
    bands = [np.array_split(band, 3, axis=1) for band in np.array_split(change, 3, axis=0)]
    ninths = {place((x + 0.5) / 3, (y + 0.5) / 3): float(bands[y][x].sum()) for y in range(3) for x in range(3)}
    busiest = max(ninths, key=lambda name: ninths[name])
    return f" at the {busiest}" if ninths[busiest] > _BUSIEST * change.sum() else ""


def _heading(thumbnails: Thumbnails) -> str:
    """What the largest changing shape does: one of plain form that every frame shows once, and that never leaps."""
    background, _ = _layout(named(thumbnails[0]))
    found = [find_shapes(named(image), background) for image in thumbnails]
    for shape in found[0]:
        sightings = [[s for s in shapes if (s.colour, s.form) == (shape.colour, shape.form)] for shapes in found]
        if shape.form in PLAIN_FORMS and all(len(seen) == 1 for seen in sightings):
            path = np.array([seen[0].centre for seen in sightings])  # [frames, 2]
            growth = sightings[-1][0].area / shape.area
            if growth > _GROWN or growth < 1 / _GROWN:
                return f", the {colour_names()[shape.colour]} {shape.form} {'grows' if growth > 1 else 'shrinks'}"
            if np.abs(np.diff(path, axis=0)).max() < _LEAP and (way := _way(*(path[-1] - path[0]))):
                return f", the {colour_names()[shape.colour]} {shape.form} moves {way}"
    return ""


def _way(right: float, down: float) -> str:
    words = ["down" if down > 0 else "up"] if abs(down) > _MOVED else []
    words += ["right" if right > 0 else "left"] if abs(right) > _MOVED else []
    return " and ".join(words)


def _look(thumbnails: Thumbnails) -> str:
    grey = thumbnails.mean(axis=3, dtype=np.float32)
    steps = [np.abs(np.diff(grey, axis=axis)) for axis in (1, 2)]
    detail = float(np.mean([step.mean() for step in steps if step.size] or [0.0]))
    return f"{_level(float(grey.mean()), _BRIGHTNESS)} and {_level(detail, _DETAIL)}"


def _level(value: float, levels: Sequence[tuple[float, str]]) -> str:
    return next(word for upper, word in levels if value < upper)


def _colour_shares(image: Image) -> NDArray[np.float64]:
    counts: NDArray[np.int64] = np.bincount(named(image).ravel(), minlength=len(colour_names()))
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def _common_colours(shares: NDArray[np.float64], least: float, most: int) -> list[str]:
    return [colour_names()[i] for i in np.argsort(-shares, kind="stable")[:most] if shares[i] >= least]


def _most_common(names: NDArray[np.uint8]) -> tuple[int, float]:
    counts = np.bincount(names.ravel())
    return int(counts.argmax()), float(counts.max()) / names.size


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + (" and " if len(words) > 1 else "") + "".join(words[-1:])


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
