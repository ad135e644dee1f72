"""The margins' histogram: bins and places on a fixed canvas, for the report to draw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.outputs.report.summary import BIN_NATS

WIDTH, HEIGHT = 720.0, 240.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 40.0, 40.0
_MOST_BARS = 48


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the histogram, "no" below and "yes" on top; places in canvas units."""

    x: float
    width: float
    no_y: float
    no_height: float
    yes_y: float
    yes_height: float
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A labelled place on an axis or a threshold."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Histogram:
    """Everything that is drawn, in canvas units of WIDTH by HEIGHT."""

    columns: tuple[Column, ...]
    x_marks: tuple[Mark, ...]
    y_marks: tuple[Mark, ...]
    thresholds: tuple[Mark, ...]
    left: float = _LEFT
    right: float = WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = HEIGHT - _BOTTOM


def histogram(margins: Mapping[tuple[str, int], int], thresholds: Sequence[tuple[str, float]]) -> Histogram | None:
    """Lay out counts by (label, bin of BIN_NATS) with vertical lines at ``thresholds``; None without any margin."""
    if not margins:
        return None
    places = [number * BIN_NATS for _, number in margins]
    low, high = min([*places, *(at for _, at in thresholds)]), max([*places, *(at for _, at in thresholds)]) + BIN_NATS
    merged = 1
    while (high - low) / (merged * BIN_NATS) > _MOST_BARS:
        merged *= 2
    step = merged * BIN_NATS
    first, last = math.floor(low / step), math.ceil(high / step)
    counts: Counter[tuple[str, int]] = Counter()
    for (label, number), count in margins.items():
        counts[label, number // merged] += count
    tallest = max(counts["no", number] + counts["yes", number] for number in range(first, last))
    y_step = _nice_step(tallest / 4)
    top = math.ceil(tallest / y_step) * y_step

    def x(nats: float) -> float:
        return _LEFT + (nats - first * step) / ((last - first) * step) * (WIDTH - _LEFT - _RIGHT)

    def y(count: float) -> float:
        return HEIGHT - _BOTTOM - count / top * (HEIGHT - _TOP - _BOTTOM)

    columns = []
    for number in range(first, last):
        no, yes = counts["no", number], counts["yes", number]
        if no + yes:
            title = f"{number * step:g} to {(number + 1) * step:g} nats: {yes} yes, {no} no"
            columns.append(
                Column(
                    x(number * step) + 0.5,
                    x(step) - x(0) - 1,
                    y(no),
                    y(0) - y(no),
                    y(no + yes),
                    y(no) - y(no + yes),
                    title,
                )
            )
    x_step = _nice_step((last - first) * step / 10)
    ticks = range(math.ceil(first * step / x_step), math.floor(last * step / x_step) + 1)
    return Histogram(
        columns=tuple(columns),
        x_marks=tuple(Mark(x(tick * x_step), f"{tick * x_step:g}".replace("-", "−")) for tick in ticks),
        y_marks=tuple(Mark(y(count), f"{count:,}") for count in range(0, top + 1, y_step)),
        thresholds=tuple(Mark(x(at), f"{name} = {at:g}".replace("-", "−")) for name, at in thresholds),
    )


def _nice_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, … that is at least ``least``."""
    power: int = 10 ** max(0, math.floor(math.log10(max(least, 1))))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least)
