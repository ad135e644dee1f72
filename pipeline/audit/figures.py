"""The arithmetic of an audit: ranking quality, calibration and bias of margins."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transforms.curate.thresholds import below_all_but

BINS = (0.0, 0.02, 0.12, 0.5, 0.88, 0.98, 1.0)
"""Bounds of the reliability table's bins of p_yes; 0.12 and 0.88 are margins of -2 and +2 nats."""

_SHARES = (0.01, 0.02, 0.05)
_TEMPERATURES = np.geomspace(0.05, 50.0, 400)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Of the pairs whose p_yes lies in [low, high): how many, their mean p_yes, and the share that is relevant."""

    low: float
    high: float
    pairs: int
    mean_p_yes: float
    relevant: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How margins tell relevant pairs from others, both kinds weighing the same.

    ``auc`` is the chance that a relevant pair has the higher margin (ties count half), ``brier`` the mean squared error
    of p_yes, ``temperature`` what margins must be divided by to be likeliest: above 1 the teacher is too sure.
    ``relevant_below`` and ``others_below`` are the shares at or below alpha1, where negatives are trusted. ``fits`` are
    what alpha1 would be if it were calibrated, by the share of relevant pairs that it may trust, with the share of
    others that it would.
    """

    relevant: int
    others: int
    auc: float
    brier: float
    temperature: float
    relevant_below: float
    others_below: float
    bins: tuple[ReliabilityBin, ...]
    fits: tuple[tuple[float, float, float], ...] = ()


def calibration(relevant: Sequence[float], others: Sequence[float], alpha1: float) -> Calibration | None:
    """From the margins (nats) of pairs known to be relevant and of pairs known not to be; None without either."""
    if not relevant or not others:
        return None
    yes, no = np.asarray(relevant, float), np.asarray(others, float)
    p_yes, p_no = _sigmoid(yes), _sigmoid(no)
    return Calibration(
        relevant=len(yes),
        others=len(no),
        auc=area_under_curve(yes, no),
        brier=float((np.mean((1 - p_yes) ** 2) + np.mean(p_no**2)) / 2),
        temperature=best_temperature(yes, no),
        relevant_below=float(np.mean(yes <= alpha1)),
        others_below=float(np.mean(no <= alpha1)),
        bins=tuple(_reliability(p_yes, p_no)),
        fits=tuple(
            (share, fit, float(np.mean(no <= fit)))
            for share in _SHARES
            for fit in (min(below_all_but(array("d", relevant), share), 0.0),)
        ),
    )


def area_under_curve(yes: NDArray[np.float64], no: NDArray[np.float64]) -> float:
    """The chance that a number of ``yes`` exceeds one of ``no``, ties counting half (Mann and Whitney's U).

    >>> area_under_curve(np.array([1.0, 3.0]), np.array([1.0, 2.0]))
    0.625
    """
    below = np.sort(no)
    wins = np.searchsorted(below, yes, "left") + np.searchsorted(below, yes, "right")
    return float(wins.sum() / (2 * len(yes) * len(no)))


def best_temperature(yes: NDArray[np.float64], no: NDArray[np.float64]) -> float:
    """The T in [0.05, 50] that minimises the log loss of sigmoid(margin / T), both kinds weighing the same.

    Guo et al., "On Calibration of Modern Neural Networks" (2017), section 4.2.
    """
    scaled_yes, scaled_no = yes[:, None] / _TEMPERATURES, no[:, None] / _TEMPERATURES
    loss = np.logaddexp(0, -scaled_yes).mean(0) + np.logaddexp(0, scaled_no).mean(0)
    return float(_TEMPERATURES[int(np.argmin(loss))])


@dataclass(frozen=True, slots=True)
class Shift:
    """What a change of the question did to the answers: of ``pairs`` asked both ways, how many could be compared.

    ``flips`` changed their label, ``to_yes`` of them from no to yes. ``mean`` and ``size`` are the mean of the
    margins' changes (positive: towards yes) and the mean of their sizes, in nats, None where no pair has both margins.
    """

    pairs: int
    compared: int
    flips: int
    to_yes: int
    mean: float | None
    size: float | None


def shift(changes: Sequence[tuple[str, str, float | None] | None]) -> Shift:
    """From (label before, label after, change of the margin or None) of each pair, None where a reply was unreadable.

    >>> shift([("no", "yes", 2.0), ("no", "no", -1.0), None])
    Shift(pairs=3, compared=2, flips=1, to_yes=1, mean=0.5, size=1.5)
    """
    compared = [change for change in changes if change is not None]
    deltas = [delta for _, _, delta in compared if delta is not None]
    return Shift(
        pairs=len(changes),
        compared=len(compared),
        flips=sum(before != after for before, after, _ in compared),
        to_yes=sum((before, after) == ("no", "yes") for before, after, _ in compared),
        mean=float(np.mean(deltas)) if deltas else None,
        size=float(np.mean(np.abs(deltas))) if deltas else None,
    )


def _reliability(p_yes: NDArray[np.float64], p_no: NDArray[np.float64]) -> list[ReliabilityBin]:
    found = []
    for low, high in pairwise(BINS):
        inside = [p[(low <= p) & ((p < high) | (high == BINS[-1]))] for p in (p_yes, p_no)]
        weights = [len(inside[0]) / len(p_yes), len(inside[1]) / len(p_no)]
        if sum(weights):
            mean = (inside[0].sum() / len(p_yes) + inside[1].sum() / len(p_no)) / sum(weights)
            pairs = len(inside[0]) + len(inside[1])
            found.append(ReliabilityBin(low, high, pairs, float(mean), weights[0] / sum(weights)))
    return found


def _sigmoid(margins: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-np.logaddexp(0, -margins))
