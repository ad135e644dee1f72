"""Scenes of towns and water: floods, sea walls, bridges, maps, trams."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from drawing import HEIGHT, WIDTH, Canvas, faded

WALLS = ("#d9a066", "#c9765b", "#e2c391", "#9db4a0", "#b8a1c4", "#d8d3c4")
COATS = ("#2f6fb0", "#c8553d", "#3f8f5f", "#8b5fa8", "#d69b2d", "#3aa0a0")


def rain(c: Canvas, t: float, drops: int = 60) -> None:
    """Slanted drops that fall at a steady speed."""
    random = Random(7)
    for _ in range(drops):
        x, y = random.uniform(0, WIDTH + 60), (random.uniform(0, HEIGHT) + 420 * t) % HEIGHT
        c.line([(x - y * 0.15, y), (x - y * 0.15 - 2.5, y + 15)], faded("#dfe9f5", 0.55), 1.2)


def row_of_houses(c: Canvas, base: float, roof: str, seed: int) -> None:
    """A street front across the whole width."""
    random = Random(seed)
    x = -20.0
    while x < WIDTH:
        wide = random.uniform(62, 104)
        c.house(x, base, wide, random.uniform(70, 128), random.choice(WALLS), roof)
        x += wide + random.uniform(8, 26)


def boat(c: Canvas, x: float, y: float, hull: str, crew: int = 2) -> None:
    """A small open boat with people in it."""
    for i in range(crew):
        c.person(x - 26 + i * 30, y + 10, 48, COATS[i], 0.3)
    c.poly([(x - 62, y - 8), (x + 66, y - 8), (x + 46, y + 20), (x - 44, y + 20)], hull)
    c.line([(x - 60, y - 6), (x + 64, y - 6)], "#ffffff", 3)


def flooded_town(
    c: Canvas, t: float, look: dict[str, str], *, level: float = 250, boats: int = 0, wet: bool = True
) -> None:
    """A street under water that slowly rises; ``boats`` cross it."""
    c.hills(230, 90, look["far"])
    row_of_houses(c, 300, look["accent"], seed=len(look["far"]) + ord(look["accent"][1]))
    c.waves(level - 2 * t, t, faded(look["water"], 0.9))
    c.waves(level + 30 - 2 * t, t + 1.3, faded(look["water"], 0.75), 5, 130)
    for i in range(boats):
        boat(c, 110 + 52 * t + i * 190, level + 22 + 4 * math.sin(2 * t + i), "#f2c230")
    if wet:
        rain(c, t)


def gauge(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """A river gauge close up, the water climbing; the labels are on its sign."""
    c.hills(190, 70, look["far"])
    c.rect(100, 30, 176, HEIGHT, "#f4f4ee", 4)
    for mark in range(7):
        y = 54 + mark * 46
        c.rect(100, y, 134 if mark % 2 else 150, y + 12, "#c03028")
    c.waves(250 - 9 * t, t, faded(look["water"], 0.88), 6, 120)
    c.waves(290 - 9 * t, t + 2, faded(look["water"], 0.7), 6, 160)
    c.board(420, 110, labels, "#fdf6dc", "#1d3557", 40)
    rain(c, t, 35)


def area_map(c: Canvas, t: float, look: dict[str, str], labels: list[str], coast: bool = False) -> None:
    """A map with a river or a coast, and a pulsing marker; the first label is the place, the rest a key."""
    c.rect(0, 0, WIDTH, HEIGHT, "#eee7d0")
    random = Random(11)
    for _ in range(9):
        c.disc(random.uniform(0, WIDTH), random.uniform(0, HEIGHT), random.uniform(30, 80), "#cfdcae", 0.6)
    if coast:
        shore = [(430 + 40 * math.sin(y / 45), y) for y in range(0, HEIGHT + 10, 10)]
        c.poly([*shore, (WIDTH, HEIGHT), (WIDTH, 0)], look["water"])
    else:
        c.line([(x, 230 + 60 * math.sin(x / 110)) for x in range(-10, WIDTH + 20, 10)], look["water"], 26)
    c.line([(0, 120), (240, 170), (400, 80), (WIDTH, 60)], "#ffffff", 7)
    c.line([(150, 0), (240, 170), (260, HEIGHT)], "#ffffff", 7)
    for ring in range(2):
        part = (t * 0.7 + ring * 0.5) % 1
        c.disc(300, 190, 12 + 60 * part, faded(look["accent"], 0.5 * (1 - part)))
    c.disc(300, 190, 13, look["accent"])
    c.disc(300, 190, 5, "#ffffff")
    c.board(320, 128, labels[:1], "#ffffff", "#22304a", 34)
    if labels[1:]:
        c.board(320, 300, labels[1:], look["accent"], "#ffffff", 30)


def cleanup(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """People with brooms on a muddy street under a banner."""
    row_of_houses(c, 270, look["accent"], seed=5)
    c.rect(0, 262, WIDTH, HEIGHT, "#8d7350")
    for i in range(14):
        c.disc((i * 97 + 20) % WIDTH, 285 + (i * 31) % 70, 34, faded("#6f5838", 0.8), 0.22)
    for i in range(5):
        x, base = 70 + i * 124 + 12 * math.sin(2.4 * t + i), 318 + (i % 2) * 24
        c.line([(x + 18, base - 55), (x + 48 + 10 * math.sin(2.4 * t + i), base)], "#5b4326", 4)
        c.person(x, base, 92, COATS[i], 0.1 * math.sin(2.4 * t + i))
    c.board(320, 62, labels, "#fff7e0", look["accent"], 30)


def sea_wall(c: Canvas, t: float, look: dict[str, str], labels: list[str] | None = None) -> None:
    """Great waves break over a wall on the shore."""
    row_of_houses(c, 268, look["accent"], seed=3)
    c.rect(0, 250, WIDTH, HEIGHT, "#7c7a72")
    surge = abs(math.sin(1.3 * t))
    random = Random(5)
    for _ in range(46):
        x, reach = random.uniform(180, 460), random.uniform(30, 150)
        c.disc(x, 262 - reach * surge, random.uniform(3, 11), faded("#f4fbff", 0.75))
    c.rect(170, 236, 480, 272, "#a09c90", 3)
    for x in range(180, 480, 44):
        c.rect(x, 240, x + 2, 268, "#8f8b80")
    c.waves(285 - 16 * surge, 2 * t, look["water"], 10, 150)
    c.waves(318, 2 * t + 2, faded("#1d4e6b", 0.7), 8, 110)
    rain(c, t, 50)
    if labels:
        c.board(320, 50, labels, "#1d4e8f", "#ffffff", 30)


def bridge(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """A broken stone bridge over fast water, its barrier swinging with a sign."""
    c.hills(210, 110, look["far"])
    c.rect(0, 190, WIDTH, 232, "#b7aa92")
    for x in range(0, WIDTH, 34):
        c.line([(x, 190), (x, 232)], "#94886f", 1.5)
    c.waves(286, 3 * t, look["water"], 6, 100)
    for x in (30, 200, 480):
        c.rect(x, 225, x + 44, 330, "#a2957c")
    c.poly([(330, 186), (356, 236), (440, 236), (460, 186)], look["far"])
    c.waves(310, 3 * t + 1, faded(look["water"], 0.85), 6, 140)
    for i in range(8):
        c.disc((i * 83 + 150 * t) % (WIDTH + 40) - 20, 316 + (i % 3) * 14, 20, faded("#ffffff", 0.3), 0.2)
    c.rect(60, 126, 270, 184, "#d1495b", 5)
    c.rect(232, 136, 264, 160, "#cfe8f5", 3)
    for x in (100, 232):
        c.disc(x, 184, 15, "#20242c")
    sway = 3 * math.sin(2 * t)
    c.board(440 + sway, 76, labels, "#ffd23f", "#20242c", 34)


def tram(c: Canvas, t: float, look: dict[str, str], labels: list[str], moving: bool = True) -> None:
    """A tram in a street; it rides past where ``moving``, else stands with its lights flashing."""
    run = 120 * t if moving else 0.0
    for i in range(9):
        x = (i * 110 - run * 0.6) % 990 - 160
        c.rect(x, 80 + (i * 37) % 60, x + 92, 270, WALLS[i % 6])
        for j in range(4):
            c.rect(x + 12 + (j % 2) * 42, 160 + (j // 2) * 44, x + 38 + (j % 2) * 42, 186 + (j // 2) * 44, "#e8f1f5")
    c.rect(0, 268, WIDTH, HEIGHT, "#6d7480")
    for y in (326, 342):
        c.line([(0, y), (WIDTH, y)], "#c9ced6", 3)
    left = 70 + (6 * math.sin(3 * t) if moving else 0)
    c.rect(left, 150, left + 500, 322, look["accent"], 20)
    c.rect(left, 254, left + 500, 270, "#ffffff")
    for i in range(6):
        c.rect(left + 24 + i * 78, 206, left + 84 + i * 78, 248, "#d8eefa", 5)
        c.disc(left + 54 + i * 78, 236, 9, ("#c58f68", "#8a5a3c", "#e0b58e")[i % 3])
    c.line([(320, 150), (350, 118), (320, 96)], "#39404d", 4)
    c.line([(0, 96), (WIDTH, 96)], "#39404d", 2)
    c.rect(left + 60, 158, left + 440, 200, "#14181f", 6)
    c.text(left + 250, 179, labels[0], 32, "#ffc53d")
    for x in (90, 190, 330, 430):
        c.disc(left + x, 322, 16, "#22262e")
    if not moving and int(2 * t) % 2:
        for x in (left + 14, left + 486):
            c.glow(x, 292, 34, "#ff9f1c")
    if labels[1:]:
        c.board(320, 44, labels[1:], "#ffffff", "#22304a", 30)


def station(c: Canvas, t: float, look: dict[str, str], labels: list[str]) -> None:
    """A glass station hall with a lift that goes up and down, travellers and a name board."""
    for x in range(0, WIDTH, 64):
        c.line([(x, 0), (x, 250)], faded("#ffffff", 0.5), 3)
    c.hills(250, 90, look["far"])
    c.rect(0, 246, WIDTH, HEIGHT, "#b9bec6")
    c.rect(0, 246, WIDTH, 256, look["accent"])
    c.rect(500, 40, 590, 300, faded("#e8f6ff", 0.7))
    lift = 190 + 60 * math.sin(0.9 * t)
    c.rect(506, lift - 40, 584, lift + 50, look["accent"], 6)
    c.person(545, lift + 46, 74, "#22304a")
    for i in range(4):
        c.person((60 + i * 130 + (30 if i % 2 else -24) * t) % 470, 330 + (i % 2) * 14, 100, COATS[i])
    c.board(250, 96, labels, "#22304a", "#ffffff", 38)


SCENES: dict[str, Callable[..., None]] = {
    "flooded_town": flooded_town, "gauge": gauge, "area_map": area_map, "cleanup": cleanup, "sea_wall": sea_wall,
    "bridge": bridge, "tram": tram, "station": station,
}  # fmt: skip
