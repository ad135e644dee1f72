"""A canvas for the sample clips: shapes, people, houses and lettering, drawn large and shrunk for smooth edges."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from PIL import Image, ImageColor, ImageDraw, ImageFont

WIDTH, HEIGHT = 640, 360
SCALE = 2  # shapes are drawn this many times larger, then averaged down
FONTS = {  # Debian packages fonts-noto-core and fonts-noto-cjk: file, face within the collection
    "latin": ("/usr/share/fonts/truetype/noto/NotoSans-Bold.ttf", 0),
    "ja": ("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 0),
    "zh": ("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc", 2),
}
Point = tuple[float, float]


@cache
def font(script: str, size: float) -> ImageFont.FreeTypeFont:
    """The bold face for ``script`` at ``size`` clip pixels."""
    path, index = FONTS[script]
    return ImageFont.truetype(path, round(size * SCALE), index=index)


@cache
def gradient(top: str, bottom: str) -> Image.Image:
    """A full-size vertical blend from ``top`` to ``bottom``."""
    ramp = Image.linear_gradient("L").resize((WIDTH * SCALE, HEIGHT * SCALE))
    return Image.composite(Image.new("RGB", ramp.size, bottom), Image.new("RGB", ramp.size, top), ramp)


def faded(color: str, alpha: float) -> tuple[int, ...]:
    """``color`` with an opacity in [0, 1]."""
    return (*ImageColor.getrgb(color)[:3], round(255 * alpha))


class Canvas:
    """One frame; coordinates are clip pixels, 640 wide and 360 high, origin at the top left."""

    def __init__(self, top: str, bottom: str, script: str = "latin") -> None:
        self.image = gradient(top, bottom).copy()
        self.pen = ImageDraw.Draw(self.image, "RGBA")
        self.script = script

    def rect(self, left: float, top: float, right: float, bottom: float, fill: object, radius: float = 0) -> None:
        """A filled rectangle, with round corners where ``radius`` is given."""
        if right > left and bottom > top:
            box = [left * SCALE, top * SCALE, right * SCALE, bottom * SCALE]
            self.pen.rounded_rectangle(box, radius * SCALE, fill=fill)  # type: ignore[arg-type]

    def disc(self, x: float, y: float, radius: float, fill: object, squash: float = 1.0) -> None:
        """A filled circle, or an ellipse whose height is ``squash`` times its width."""
        high = radius * squash
        box = [(x - radius) * SCALE, (y - high) * SCALE, (x + radius) * SCALE, (y + high) * SCALE]
        self.pen.ellipse(box, fill=fill)  # type: ignore[arg-type]

    def poly(self, points: Sequence[Point], fill: object) -> None:
        """A filled polygon."""
        self.pen.polygon([(x * SCALE, y * SCALE) for x, y in points], fill=fill)  # type: ignore[arg-type]

    def line(self, points: Sequence[Point], fill: object, width: float) -> None:
        """An open line through ``points``."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self.pen.line(scaled, fill=fill, width=max(1, round(width * SCALE)), joint="curve")  # type: ignore[arg-type]

    def glow(self, x: float, y: float, radius: float, color: str) -> None:
        """A soft light, brightest in the middle."""
        for part in (1.0, 0.75, 0.5, 0.3):
            self.disc(x, y, radius * part, faded(color, 0.16))

    def text(self, x: float, y: float, text: str, size: float, fill: str, anchor: str = "mm") -> None:
        """Lettering of ``size`` pixels, placed by a Pillow text anchor."""
        self.pen.text((x * SCALE, y * SCALE), text, fill=fill, font=font(self.script, size), anchor=anchor)

    def text_width(self, text: str, size: float) -> float:
        """How wide ``text`` comes out, in clip pixels."""
        return font(self.script, size).getlength(text) / SCALE

    def board(self, x: float, y: float, lines: Sequence[str], fill: str, ink: str, size: float = 30) -> None:
        """A sign centred on (x, y) with one or more lines."""
        wide = max(self.text_width(line, size) for line in lines) + 28
        high = len(lines) * size * 1.28 + 12
        self.rect(x - wide / 2 - 4, y - high / 2 - 4, x + wide / 2 + 4, y + high / 2 + 4, ink, 9)
        self.rect(x - wide / 2, y - high / 2, x + wide / 2, y + high / 2, fill, 6)
        for i, line in enumerate(lines):
            self.text(x, y + (i - (len(lines) - 1) / 2) * size * 1.28, line, size, ink)

    def lower_third(self, lines: Sequence[str], accent: str, t: float) -> None:
        """A news caption that slides in from the left during the first half second."""
        left = 20 - 640 * max(0.0, 0.5 - t) ** 2 * 4
        wide = max(self.text_width(line, size) for line, size in zip(lines, (34, 27), strict=False)) + 36
        top = HEIGHT - 26 - (52 if len(lines) == 1 else 88)
        self.rect(left, top, left + wide, HEIGHT - 26, faded("#101828", 0.86), 4)
        self.rect(left, top, left + 9, HEIGHT - 26, accent)
        self.text(left + 22, top + 26, lines[0], 34, "#ffffff", "lm")
        if len(lines) > 1:
            self.text(left + 22, top + 65, lines[1], 27, "#ffe9a8", "lm")

    def waves(self, level: float, t: float, fill: object, height: float = 4, length: float = 90) -> None:
        """Water from ``level`` (the mean y of its surface) down to the bottom."""
        crest = [(x, level + height * math.sin(x / length * math.tau + 2 * t)) for x in range(0, WIDTH + 10, 10)]
        self.poly([*crest, (WIDTH, HEIGHT), (0, HEIGHT)], fill)

    def hills(self, level: float, height: float, fill: str, shift: float = 0) -> None:
        """A rolling horizon."""
        ridge = [
            (x, level - height * (0.5 + 0.32 * math.sin((x + shift) / 71) + 0.18 * math.sin((x + shift) / 29 + 2)))
            for x in range(0, WIDTH + 10, 10)
        ]
        self.poly([*ridge, (WIDTH, HEIGHT), (0, HEIGHT)], fill)

    def house(self, x: float, base: float, wide: float, high: float, wall: str, roof: str) -> None:
        """A house with lit windows, standing on ``base``."""
        self.rect(x, base - high, x + wide, base, wall)
        peak = base - high - wide * 0.42
        self.poly([(x - 6, base - high), (x + wide / 2, peak), (x + wide + 6, base - high)], roof)
        for row in range(int(high // 34)):
            for side in (0.2, 0.6):
                top = base - high + 12 + row * 34
                self.rect(x + wide * side, top, x + wide * (side + 0.22), top + 17, "#fbe7a1")

    def person(self, x: float, base: float, high: float, coat: str, wave: float = 0.0) -> None:
        """A standing figure; ``wave`` in [-1, 1] raises its right arm."""
        self.disc(x, base - high * 0.87, high * 0.12, "#f0c9a4")
        self.rect(x - high * 0.13, base - high * 0.74, x + high * 0.13, base - high * 0.3, coat, high * 0.07)
        for side in (-1, 1):
            self.line(
                [(x + side * high * 0.07, base - high * 0.33), (x + side * high * 0.09, base)], "#263043", high * 0.08
            )
        hand = (x + high * 0.3, base - high * (0.55 + 0.35 * wave))
        self.line([(x + high * 0.1, base - high * 0.66), hand], coat, high * 0.08)
        self.line([(x - high * 0.1, base - high * 0.66), (x - high * 0.2, base - high * 0.38)], coat, high * 0.08)

    def finish(self) -> Image.Image:
        """The frame at clip size."""
        return self.image.reduce(SCALE)
