"""Plain shapes in a picture of colour names: connected patches of one colour that fill a disc, a box or a triangle."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SMALLEST, _LARGEST = 0.006, 0.5  # of the picture
_FILLED = 0.35  # of its upright rectangle, or a patch is scattered and has no form
_FITS = 0.88  # intersection over union with the ideal form
_LEAST_SIDE = 7  # pixels: below that every patch fits every form

PLAIN_FORMS = frozenset({"disc", "oval", "square", "rectangle", "triangle", "diamond"})


@dataclass(frozen=True)
class Shape:
    """A patch: the number of its colour, its form in a word or two, its centre (x, y) and area as fractions."""

    colour: int
    form: str
    centre: tuple[float, float]
    area: float


def find_shapes(names: NDArray[np.uint8], background: frozenset[int]) -> list[Shape]:
    """The shapes of a picture [height, width] of colour numbers that stand out from the background, largest first."""
    labels = _patches(names)
    height, width = names.shape
    found = []
    for label, size in zip(*np.unique(labels, return_counts=True), strict=True):
        area = float(size) / names.size
        row, column = divmod(int(label), width)
        colour = int(names[row, column])
        if colour in background or not _SMALLEST <= area <= _LARGEST:
            continue
        rows, columns = np.nonzero(labels == label)
        mask = labels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == label
        if form := _form(mask, (height, width)):
            middle = ((columns.min() + columns.max() + 1) / 2 / width, (rows.min() + rows.max() + 1) / 2 / height)
            found.append(Shape(colour, form, (float(middle[0]), float(middle[1])), area))
    return sorted(found, key=lambda shape: (-shape.area, shape.centre))


def _patches(names: NDArray[np.uint8]) -> NDArray[np.int64]:
    """[height, width] labels: connected pixels of one colour carry the position of the last of them."""
    labels = np.arange(names.size).reshape(names.shape)
    beside, below = names[:, 1:] == names[:, :-1], names[1:] == names[:-1]
    while True:
        before = labels.copy()
        for here, there, same in ((labels[:, 1:], labels[:, :-1], beside), (labels[1:], labels[:-1], below)):
            larger = np.where(same, np.maximum(here, there), 0)
            np.maximum(here, larger, out=here)
            np.maximum(there, larger, out=there)
        labels = labels.ravel()[labels]  # jump to the label of the label, so that long patches settle in few rounds
        if np.array_equal(before, labels):
            return labels


def _form(mask: NDArray[np.bool_], picture: tuple[int, int]) -> str:
    """The form of a patch that fills its rectangle ``mask``, or "" where it has none."""
    height, width = mask.shape
    if mask.mean() < _FILLED:
        return ""
    if min(height, width) < _LEAST_SIDE:
        return "strip" if max(height, width) >= 4 * min(height, width) else "spot"
    y, x = ((np.arange(n) + 0.5) / n * 2 - 1 for n in (height, width))
    across, down = np.meshgrid(x, y)
    long_side = max(height, width) >= 1.25 * min(height, width)
    across_all, down_all = width >= 0.95 * picture[1], height >= 0.95 * picture[0]
    box = "rectangle" if long_side else "square"
    if across_all != down_all:
        box = "horizontal band" if across_all else "vertical band"
    forms = (
        (box, np.ones_like(mask)),
        ("oval" if long_side else "disc", across**2 + down**2 <= 1),
        ("triangle", np.abs(across) <= (down + 1) / 2),
        ("triangle", np.abs(across) <= (1 - down) / 2),
        ("diamond", np.abs(across) + np.abs(down) <= 1),
    )
    fit, form = max(((mask & ideal).sum() / (mask | ideal).sum(), name) for name, ideal in forms)
    return form if fit >= _FITS else "patch"


def place(x: float, y: float) -> str:
    """Where in the picture a point (fractions from the left and from the top) lies, in words."""
    across = ("left", "", "right")[min(int(x * 3), 2)]
    down = ("upper", "", "lower")[min(int(y * 3), 2)]
    if not across:
        return {"upper": "top", "": "centre", "lower": "bottom"}[down]
    return f"{down} {across}".strip()
