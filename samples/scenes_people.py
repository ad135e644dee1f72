"""Scenes of gatherings: elections, halls, queues, festivals and their stalls."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from drawing import HEIGHT, WIDTH, Canvas, faded
from scenes_town import COATS


def snowfall(c: Canvas, t: float) -> None:
    """Flakes that drift as they fall."""
    random = Random(3)
    for _ in range(70):
        x, y = random.uniform(0, WIDTH), (random.uniform(0, HEIGHT) + 60 * t) % HEIGHT
        c.disc(x + 8 * math.sin(t + y / 30), y, random.uniform(1.5, 3.5), faded("#ffffff", 0.9))


def crowd(c: Canvas, t: float, seed: int) -> None:
    """The backs of an audience along the bottom edge."""
    random = Random(seed)
    for i in range(15):
        x, y = i * 46 + random.uniform(-8, 8), 338 + random.uniform(-8, 8) + 3 * math.sin(3 * t + i)
        c.disc(x, y - 20, 15, "#1c2233")
        c.disc(x, y + 22, 27, "#262e44", 1.1)


def bar_chart(c: Canvas, t: float, look: dict[str, str], labels: list[str], values: list[float]) -> None:
    """Results as horizontal bars that grow; a label and a percentage for each, the last label is the heading."""
    c.rect(24, 22, WIDTH - 24, HEIGHT - 22, "#fbfaf5", 10)
    c.text(320, 56, labels[-1], 32, "#22304a")
    grown = min(1.0, 0.15 + t / 2.5)
    for i, (name, value) in enumerate(zip(labels[:-1], values, strict=True)):
        y = 96 + i * (230 / len(values))
        c.text(48, y + 18, name, 29, "#22304a", "lm")
        wide = 440 * value / max(values) * grown
        c.rect(48, y + 40, 48 + wide, y + 74, look["accent"] if i == 0 else look["far"], 5)
        c.text(60 + wide, y + 56, f"{value * grown:.0f}%", 30, "#22304a", "lm")


def hall(c: Canvas, t: float, look: dict[str, str], labels: list[str], party: bool = True) -> None:
    """A speaker on a stage under a banner, before an audience; confetti falls where there is a ``party``."""
    for i in range(10):
        c.rect(i * 66, 0, i * 66 + 34, 260, faded("#000000", 0.13))
    c.rect(0, 248, WIDTH, HEIGHT, "#6b4a32")
    c.person(320, 262, 150, look["accent"], 0.6 + 0.4 * math.sin(3 * t))
    c.poly([(272, 190), (368, 190), (356, 280), (284, 280)], "#8f6440")
    c.line([(320, 190), (312, 158)], "#1c2233", 4)
    c.disc(312, 156, 6, "#1c2233")
    if party:
        random = Random(9)
        for i in range(70):
            x, y = random.uniform(0, WIDTH), (random.uniform(0, HEIGHT) + 90 * t) % HEIGHT
            c.rect(x, y, x + 6, y + 4 + 3 * math.sin(5 * t + i), COATS[i % 6])
    c.board(320, 62 if len(labels) == 1 else 56, labels, "#ffffff", look["accent"], 36 if len(labels) == 1 else 30)
    crowd(c, t, 2)


def ballot_box(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """Hands drop one ballot after another into a box that bears the labels."""
    c.rect(0, 270, WIDTH, HEIGHT, "#9a7b57")
    c.rect(0, 270, WIDTH, 280, "#b8966d")
    drop = (t * 0.6) % 1
    c.rect(270, 20 + 110 * drop, 370, 100 + 110 * drop, "#ffffff", 3)
    c.line([(290, 44 + 110 * drop), (312, 66 + 110 * drop), (350, 36 + 110 * drop)], "#c8553d", 6)
    if drop < 0.75:
        c.line([(WIDTH, -20), (392, 34 + 110 * drop)], COATS[int(t * 0.6) % 6], 44)
        c.disc(378, 40 + 110 * drop, 24, "#f0c9a4", 0.8)
    c.rect(130, 158, 510, 316, look["accent"], 8)
    c.rect(130, 158, 510, 180, faded("#000000", 0.25), 8)
    c.rect(240, 164, 400, 174, "#14181f", 3)
    for i, line in enumerate(labels):
        c.text(320, 216 + i * 48, line, 38 if i == 0 else 32, "#ffffff")


def queue(c: Canvas, t: float, look: dict[str, str], labels: list[str], snow: bool = False) -> None:
    """Voters wait in line at the door of a public building with a sign."""
    c.hills(240, 120, look["far"])
    c.rect(0, 262, WIDTH, HEIGHT, "#f3f6fa" if snow else "#a9b08c")
    c.rect(330, 110, 640, 276, "#e6dcc6")
    c.poly([(310, 112), (485, 56), (660, 112)], look["accent"])
    for column in (350, 400, 550, 600):
        c.rect(column, 116, column + 18, 276, "#fffaf0")
    c.rect(440, 186, 530, 276, "#4a3624")
    for i in range(8):
        x = 440 - (i * 61 - 12 * t) % 488  # whoever enters is followed by somebody new from the left
        c.person(x, 330 + (i % 2) * 6, 96, COATS[i % 6], 0.05 * math.sin(4 * t + i))
    if snow:
        snowfall(c, t)
    c.board(190, 70, labels, "#ffffff", look["accent"], 30)


def lantern(c: Canvas, x: float, y: float, size: float, color: str) -> None:
    """A glowing paper lantern."""
    c.glow(x, y, size * 2.1, "#ffb347")
    c.disc(x, y, size, color, 0.85)
    c.disc(x, y, size * 0.5, "#ffe08a", 1.6)
    c.rect(x - size * 0.4, y - size, x + size * 0.4, y - size * 0.75, "#6b3a12")
    c.line([(x, y + size * 0.85), (x, y + size * 1.5)], "#f2c230", 2)


def lantern_river(c: Canvas, t: float, look: dict[str, str], labels: list[str] | None = None) -> None:
    """Lanterns rise into the night above a river that mirrors them."""
    c.disc(540, 70, 34, "#fdf3cf")
    c.hills(250, 80, look["far"])
    c.waves(262, t, faded(look["water"], 0.95), 2)
    random = Random(4)
    for i in range(16):
        x = random.uniform(20, 620) + 10 * math.sin(t + i)
        y = 300 - (random.uniform(0, 300) + 26 * t) % 300
        lantern(c, x, y, 8 + 10 * (i % 4) / 3, look["accent"])
        c.disc(x, 290 + (i * 17) % 60, 16, faded("#ffb347", 0.3), 0.2)
    if labels:
        c.board(320, 60, labels, "#b3202a", "#ffe9a8", 42)


def dragon_dance(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """A dragon winds through a square, carried by dancers."""
    for i in range(7):
        lantern(c, 46 + i * 92, 132 + 8 * (i % 2), 13, "#d62828")
    c.rect(0, 290, WIDTH, HEIGHT, "#4b3b4f")
    body = [(60 + i * 24, 214 + 34 * math.sin(i * 0.55 - 4 * t)) for i in range(20)]
    for i, (x, y) in enumerate(body):
        if i % 4 == 1:
            c.person(x, 340, 92, COATS[i % 6], 0.9)
            c.line([(x + 26, 262), (x + 12, y)], "#8f6440", 4)
    for i, (x, y) in enumerate(body):
        c.disc(x, y, 15 + 5 * i / 20, look["accent"] if i % 2 else "#ffd23f")
    x, y = body[-1]
    c.disc(x + 26, y, 32, look["accent"])
    c.poly([(x + 40, y - 10), (x + 84, y - 6), (x + 40, y + 6)], "#ffd23f")
    c.poly([(x + 36, y + 10), (x + 76, y + 16), (x + 36, y + 22)], "#ffd23f")
    c.disc(x + 28, y - 12, 9, "#ffffff")
    c.disc(x + 31, y - 12, 4, "#14181f")
    for dx in (8, 24):
        c.line([(x + dx, y - 26), (x + dx - 12, y - 52)], "#ffd23f", 5)
    c.board(320, 52, labels, "#b3202a", "#ffe9a8", 40)


def stall(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """A food stall at night with a cook, steam and a sign that names dish and price."""
    for i in range(8):
        lantern(c, 36 + i * 82, 30 + 6 * math.sin(t + i), 11, look["accent"])
    c.rect(110, 120, 530, 330, "#5a3d28", 4)
    c.rect(130, 190, 510, 262, "#f7d9a0")
    c.person(210, 300, 118, "#f4f4ee", 0.2 * math.sin(4 * t))
    c.person(420, 300, 112, look["accent"], 0.2 * math.cos(4 * t))
    c.rect(100, 258, 540, 334, "#8f6440", 4)
    for i in range(7):
        c.disc(170 + i * 50, 256, 17, "#d88c3a" if i % 2 else "#fff3dc", 0.7)
        for puff in range(3):
            part = (t * 0.5 + puff / 3 + i * 0.13) % 1
            c.disc(
                170 + i * 50 + 6 * math.sin(3 * t + i),
                244 - 70 * part,
                5 + 9 * part,
                faded("#ffffff", 0.35 * (1 - part)),
            )
    for i in range(11):
        c.poly([(90 + i * 42, 76), (132 + i * 42, 76), (132 + i * 42, 122), (111 + i * 42, 138), (90 + i * 42, 122)],
               "#ffffff" if i % 2 else look["accent"])  # fmt: skip
    c.board(320, 98, labels[:1], "#fff7e0", "#8c1c13", 40)
    if labels[1:]:
        c.board(320, 300, labels[1:], "#fff7e0", "#22304a", 34)


SCENES: dict[str, Callable[..., None]] = {
    "bar_chart": bar_chart, "hall": hall, "ballot_box": ballot_box, "queue": queue, "lantern_river": lantern_river,
    "dragon_dance": dragon_dance, "stall": stall,
}  # fmt: skip
