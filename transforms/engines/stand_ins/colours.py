"""Names of colours: which of some thirty everyday names each pixel has."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
from numpy.typing import NDArray

from transforms.protocols.frames import Image

_LEVELS = 32  # a channel, in the table from colour to name
_HUES = (  # upper end of each hue, degrees
    (15, "red"),
    (42, "orange"),
    (68, "yellow"),
    (165, "green"),
    (195, "turquoise"),
    (258, "blue"),
    (295, "purple"),
    (345, "pink"),
    (360, "red"),
)


@cache
def _table() -> tuple[tuple[str, ...], NDArray[np.uint8]]:
    """All names, and [levels, levels, levels] indices into them by red, green and blue."""
    middles = (np.arange(_LEVELS) + 0.5) / _LEVELS
    names = [[[_name(red, green, blue) for blue in middles] for green in middles] for red in middles]
    known = sorted({name for plane in names for row in plane for name in row})
    index = {name: number for number, name in enumerate(known)}
    return tuple(known), np.array([[[index[name] for name in row] for row in plane] for plane in names], dtype=np.uint8)


_GREYS = ((0.16, "black"), (0.38, "dark grey"), (0.68, "grey"), (0.88, "light grey"), (np.inf, "white"))


def _name(red: float, green: float, blue: float) -> str:
    """The name of one colour, channels in [0, 1], by its hue, saturation and value (HSV)."""
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    hue *= 360
    if value < 0.16 or saturation < 0.15 or saturation * value < 0.07:
        return next(name for upper, name in _GREYS if value < upper)
    if 15 <= hue < 50 and value < 0.7:
        return "dark brown" if value < 0.35 else "brown"
    if 15 <= hue < 68 and saturation < 0.35:
        return "beige"
    name = next(name for upper, name in _HUES if hue < upper)
    if value < 0.45:
        return f"dark {name}"
    pale = saturation < 0.45 and value > 0.65
    return ("light pink" if name == "red" else f"light {name}") if pale else name


def colour_names() -> tuple[str, ...]:
    """Every name, in the order of the numbers that ``named`` gives."""
    return _table()[0]


def named(image: Image) -> NDArray[np.uint8]:
    """The number of each pixel's colour name; [height, width, 3] RGB to [height, width]."""
    red, green, blue = np.moveaxis(image // (256 // _LEVELS), 2, 0)
    numbers: NDArray[np.uint8] = _table()[1][red, green, blue]
    return numbers
