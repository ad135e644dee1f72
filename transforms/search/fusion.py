"""Several runs made one: by reciprocal ranks, by scores on a common scale, or by taking the best of each.

The result does not depend on the order in which the runs are named: sums are taken in fp64 in the order of their
names, and equal scores fall to the smaller video id.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.check import require
from schemas.configuration.section import Section, did_you_mean
from schemas.query import Candidates

Scores = NDArray[np.float64]


class FusionConfig(Section, frozen=True):
    """How runs are fused. A run's weight is 1 unless ``weights`` says another.

    ``rrf``: the sum of weight / (k + rank), where a run that lacks the video adds nothing (Cormack, Clarke, Buettcher
    2009). ``minmax``: the weighted sum of scores brought to 0 to 1 within each run's list; where all are equal, 1.
    ``zscore``: of scores less their mean, divided by their standard deviation; where all are equal, 0. In both, a video
    that a run lacks gets the lowest that the list has: 0 for the first, but for z-scores 0 would be the mean, above
    many that were found. The scale of a list depends on how deep it is.

    ``union``: what any run found, by the best rank that any gave: first all that came first, then those that came
    second. The score is 1 / that rank. ``quotas`` say how many of a run the judge is given, the first that it may be
    given at all (see ``choose_pairs``); of a run that they do not name, there is no such limit.
    """

    method: Literal["rrf", "minmax", "zscore", "union"] = "rrf"
    k: Annotated[int, msgspec.Meta(ge=1)] = 60
    weights: dict[str, float] = {}
    quotas: dict[str, Annotated[int, msgspec.Meta(ge=1)]] = {}

    def __post_init__(self) -> None:
        positive = all(math.isfinite(weight) and weight > 0 for weight in self.weights.values())
        require(positive, "a run's weight is above zero; leave the run out instead", self.weights)
        require(not self.weights or self.method != "union", "a union has quotas, no weights", self.weights)
        require(not self.quotas or self.method == "union", "only a union has quotas", self.quotas)

    def require_runs(self, names: Collection[str]) -> None:
        """Refuse weights and quotas of runs that are none of these.

        Raises:
            InvalidRecord: with the name, and those that there are.
        """
        for name in sorted({*self.weights, *self.quotas} - set(names)):
            require(False, f"weights and quotas name runs{did_you_mean(name, sorted(names))}", name)


def fuse(runs: Mapping[str, Candidates], config: FusionConfig, depth: int | None = None) -> Candidates:
    """One run of the videos of all, or of the best ``depth`` of them."""
    config.require_runs(runs)
    video_ids = sorted({video_id for run in runs.values() for video_id in run.video_ids})
    places = {video_id: place for place, video_id in enumerate(video_ids)}
    found = {name: np.array([places[video] for video in runs[name].video_ids], np.int64) for name in sorted(runs)}
    if config.method == "union":
        fused = _best_reciprocal_ranks(found, len(video_ids))
    else:
        fused = np.zeros(len(video_ids))
        for name, at in found.items():
            parts, missing = _PARTS[config.method](_within_reach(np.array(runs[name].scores)), config.k)
            values = np.full(len(video_ids), missing)
            values[at] = parts
            fused += config.weights.get(name, 1.0) * values
    order = np.argsort(-fused, kind="stable")[:depth]
    return Candidates((video_ids[place] for place in order), fused[order])


def _within_reach(scores: Scores) -> Scores:
    """The scores of a list times a power of two, the largest near 1: their squares neither overflow nor vanish."""
    if not len(scores):
        return scores
    scaled: Scores = np.ldexp(scores, -np.frexp(np.abs(scores).max())[1])
    return scaled


def _best_reciprocal_ranks(found: Mapping[str, NDArray[np.int64]], count: int) -> Scores:
    """1 / the best rank in any run."""
    fused = np.zeros(count)
    for at in found.values():
        fused[at] = np.maximum(fused[at], 1 / np.arange(1, len(at) + 1))
    return fused


def _reciprocal_ranks(scores: Scores, k: int) -> tuple[Scores, float]:
    """What each of a list adds, and what it adds to a video that it lacks; so do the functions below."""
    return 1 / (k + np.arange(1, len(scores) + 1)), 0.0


def _between_0_and_1(scores: Scores, _: int) -> tuple[Scores, float]:
    if not len(scores):
        return scores, 0.0
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones(len(scores)), 0.0


def _standardised(scores: Scores, _: int) -> tuple[Scores, float]:
    if not len(scores) or scores.min() == scores.max():
        return np.zeros(len(scores)), 0.0
    off = scores - math.fsum(scores) / len(scores)
    parts = off / math.sqrt(math.fsum(off * off) / len(scores))
    return parts, float(parts.min())


_PARTS: dict[str, Callable[[Scores, int], tuple[Scores, float]]] = {
    "rrf": _reciprocal_ranks,
    "minmax": _between_0_and_1,
    "zscore": _standardised,
}
