"""Scenes of sky, space and sea: rockets, orbits, fireworks, fish."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from drawing import HEIGHT, WIDTH, Canvas, faded
from scenes_town import rain

SPARKS = ("#ff5d5d", "#ffd166", "#7bdff2", "#c792ea", "#9be564", "#ff9f68")


def stars(c: Canvas, t: float) -> None:
    """A dark, twinkling sky."""
    c.rect(0, 0, WIDTH, HEIGHT, "#070b1e")
    random = Random(1)
    for i in range(80):
        bright = 0.5 + 0.4 * math.sin(2 * t + i)
        c.disc(random.uniform(0, WIDTH), random.uniform(0, HEIGHT), random.uniform(0.8, 1.9), faded("#ffffff", bright))


def rocket(c: Canvas, x: float, base: float, stripe: str, *, flame: float = 0.0, boosters: bool = False) -> None:
    """A rocket that stands on ``base``; ``flame`` is the length of its exhaust in pixels."""
    if flame:
        c.glow(x, base + 16, 60, "#ffb347")
        c.poly([(x - 14, base), (x + 14, base), (x, base + flame)], "#ffd166")
        c.poly([(x - 7, base), (x + 7, base), (x, base + flame * 0.6)], "#ffffff")
    if boosters:
        for side in (-1, 1):
            c.rect(x + side * 28 - 9, base - 84, x + side * 28 + 9, base, "#dfe4ea", 7)
    c.rect(x - 18, base - 150, x + 18, base, "#f7f8fa", 4)
    c.poly([(x - 18, base - 146), (x, base - 196), (x + 18, base - 146)], stripe)
    c.rect(x - 18, base - 96, x + 18, base - 76, stripe)
    c.disc(x, base - 122, 8, "#3a506b")
    for side in (-1, 1):
        c.poly([(x + side * 18, base - 40), (x + side * 38, base), (x + side * 18, base)], stripe)


def launch_pad(
    c: Canvas, t: float, look: dict[str, str], *, lift: bool = True, storm: bool = False, twin: bool = False
) -> None:
    """A rocket on its pad: it lifts off where ``lift``; lightning strikes the tower in a ``storm``."""
    c.hills(290, 46, look["far"])
    c.rect(0, 286, WIDTH, HEIGHT, look["ground"])
    c.rect(500, 96, 528, 300, "#59616e")
    for y in range(100, 296, 24):
        c.line([(500, y), (528, y + 20)], "#8b94a3", 3)
    c.rect(350, 288, 540, 304, "#444b57", 3)
    climb = 16 * max(0.0, t - 1.2) ** 1.9 if lift else 0.0
    if lift:
        random = Random(6)
        for i in range(26):
            spread = min(1.0, t / 3) * random.uniform(20, 200)
            x = 440 + (spread if i % 2 else -spread)
            c.disc(x, 300 - random.uniform(0, 18), 12 + spread / 7, faded("#f3efe8", 0.6), 0.7)
    else:
        c.line([(462, 190), (500, 190)], "#8b94a3", 6)
    rocket(c, 440, 288 - climb, look["accent"], flame=(54 + 10 * math.sin(25 * t)) * lift, boosters=twin)
    if storm:
        rain(c, t)
        if t % 2 < 0.5:
            c.rect(0, 0, WIDTH, HEIGHT, faded("#ffffff", 0.22))
            c.line([(570, 0), (536, 34), (558, 50), (514, 96)], "#fffbd0", 4)


def control_room(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """A dark control room: a big screen with the labels, rows of desks, a plot that runs."""
    c.rect(0, 0, WIDTH, HEIGHT, "#1a2130")
    c.rect(70, 24, 570, 200, "#0b1a2b", 6)
    c.rect(76, 30, 564, 194, "#12304a", 4)
    for i, line in enumerate(labels):
        c.text(320, 74 + i * 54, line, 46 if i == 0 else 34, "#ffffff" if i else look["accent"])
    plot = [(90 + i * 10, 182 - 8 * math.sin(i / 3 + 3 * t)) for i in range(int(min(47, 6 + 9 * t)))]
    c.line(plot, "#7bdff2", 3)
    for i in range(5):
        x = 60 + i * 130
        c.rect(x - 52, 256, x + 52, 346, "#2c3646", 5)
        c.rect(x - 34, 232, x + 34, 274, look["accent"] if int(2 * t + i) % 3 else "#7bdff2", 4)
        c.disc(x, 290, 19, "#151b26")
        c.disc(x, 340, 36, "#1f2838", 1.1)


def orbit(c: Canvas, t: float, look: dict[str, str], docking: bool = False) -> None:
    """A craft above a blue planet; it nears a station where ``docking``."""
    stars(c, t)
    c.disc(320, 640, 420, "#2d7dd2")
    c.disc(318, 646, 412, "#1f5fa8")
    for i in range(5):
        c.disc((i * 170 + 12 * t) % 760 - 60, 296 + (i % 3) * 26, 66, faded("#ffffff", 0.35), 0.18)
    x = min(330.0, 60 + 34 * t) if docking else 120 + 44 * t
    y = 140 if docking else 170 - 26 * math.sin(t / 2)
    c.rect(x - 26, y - 17, x + 26, y + 17, "#e8ebf0", 7)
    c.poly([(x + 26, y - 14), (x + 46, y - 6), (x + 46, y + 6), (x + 26, y + 14)], look["accent"])
    for side in (-1, 1):
        c.rect(x - 18, y + side * 46 - 24, x + 18, y + side * 46 + 24, "#3a6ea5")
        c.line([(x, y), (x, y + side * 24)], "#cfd6df", 4)
    if docking:
        c.rect(382, 122, 560, 158, "#dfe4ea", 12)
        c.rect(450, 60, 486, 220, "#cfd6df", 10)
        for dx in (400, 520):
            for dy in (40, 196):
                c.rect(dx, dy, dx + 40, dy + 50, "#c49a3a")


def booster_landing(c: Canvas, t: float, look: dict[str, str]) -> None:
    """A rocket stage comes down on a platform at sea."""
    c.disc(110, 90, 30, "#fff1c1")
    c.waves(262, t, look["water"], 3)
    c.rect(330, 258 + 2 * math.sin(t), 590, 286 + 2 * math.sin(t), "#4b5361", 4)
    c.disc(460, 268, 58, "#f2c230", 0.14)
    down = max(0.0, 250 - 58 * t)
    rocket(c, 460, 262 - down, look["accent"], flame=70 if down else 0)
    for i in range(10):
        if down < 60:
            c.disc(360 + i * 22, 262, 16 + 5 * math.sin(i), faded("#f3efe8", 0.55), 0.5)
    c.waves(300, t + 1, faded(look["water"], 0.85), 5)


def fishing_boat(c: Canvas, x: float, y: float, flag: str) -> None:
    """A boat with a mast and a string of flags."""
    c.poly([(x - 60, y), (x + 64, y), (x + 44, y + 24), (x - 46, y + 24)], "#e8ebf0")
    c.rect(x - 40, y + 8, x + 48, y + 14, flag)
    c.rect(x - 34, y - 26, x + 4, y, "#c9d3df", 3)
    c.line([(x + 20, y), (x + 20, y - 74)], "#5a3d28", 4)
    for i in range(5):
        fx, fy = x + 18 - i * 14, y - 70 + i * 12
        c.poly([(fx, fy), (fx - 12, fy + 4), (fx - 6, fy + 14)], SPARKS[i])


def fireworks(c: Canvas, t: float, look: dict[str, str], labels: list[str] | None = None, boats: int = 0) -> None:
    """Shells burst over a bay; boats with flags pass below."""
    c.hills(280, 70, look["far"])
    c.waves(280, t, look["water"], 2)
    random = Random(8)
    for shell in range(9):
        x, y = random.uniform(60, 580), random.uniform(110, 190)
        age = (t + shell * 0.8) % 3.6
        if age < 2.0:
            color, radius = SPARKS[shell % 6], 88 * (1 - math.exp(-2.2 * age))
            for i in range(26):
                turn = i / 26 * math.tau
                dot = (x + radius * math.cos(turn), y + radius * math.sin(turn) * 0.95 + 12 * age * age)
                c.line([(x + (dot[0] - x) * 0.72, y + (dot[1] - y) * 0.72), dot], faded(color, 0.95 - 0.45 * age), 2.4)
            c.disc(x, 312 + shell * 5, 30, faded(color, 0.3), 0.16)
    for i in range(boats):
        fishing_boat(c, (i * 230 + 50 * t) % 800 - 70, 306 + 3 * math.sin(2 * t + i) + 12 * (i % 2), SPARKS[i])
    if labels:
        c.board(320, 50, labels, "#1c2a5e", "#ffffff", 40)


def aquarium(c: Canvas, t: float, look: dict[str, str]) -> None:
    """Fish, weed and bubbles; no lettering."""
    c.rect(0, 318, WIDTH, HEIGHT, "#d8c48f")
    for i in range(9):
        root = 30 + i * 74
        c.line([(root + 10 * math.sin(t + i + y / 40), 324 - y) for y in range(0, 60 + (i * 41) % 90, 8)], "#2f8f5b", 8)
    for i in range(7):
        way = 1 if i % 2 else -1
        x = (i * 137 + way * (34 + 7 * i) * t) % 740 - 50
        y, size = 60 + i * 34 + 8 * math.sin(2 * t + i), 17 + 3 * (i % 3)
        c.poly(
            [(x - way * size, y), (x - way * size * 2, y - size * 0.7), (x - way * size * 2, y + size * 0.7)],
            SPARKS[i % 6],
        )
        c.disc(x, y, size * 1.3, SPARKS[i % 6], 0.62)
        c.disc(x + way * size * 0.7, y - 3, 4, "#ffffff")
        c.disc(x + way * size * 0.8, y - 3, 2, look["far"])
    for i in range(14):
        c.disc(
            60 + (i % 4) * 160 + 6 * math.sin(3 * t + i),
            340 - (i * 53 + 60 * t) % 340,
            4 + i % 4,
            faded("#ffffff", 0.4),
        )


SCENES: dict[str, Callable[..., None]] = {
    "launch_pad": launch_pad, "control_room": control_room, "orbit": orbit, "booster_landing": booster_landing,
    "fireworks": fireworks, "aquarium": aquarium,
}  # fmt: skip
