"""Thresholds that fit the judge: numbers, or quantiles of the margins that a run's own candidates got."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated

import apache_beam as beam
import msgspec
import numpy as np

from prompts.margin import LIMIT
from schemas.check import InvalidRecord
from schemas.configuration.section import Section
from schemas.query import Judgement
from transforms.curate.curate_query import CurateRules, Positives
from transforms.curate.strata import Thresholds
from transforms.teacher.panel import PanelRules


class Quantile(Section, frozen=True):
    """The least margin that a share ``quantile`` of all margins do not exceed; see ``quantile_of``."""

    quantile: Annotated[float, msgspec.Meta(gt=0, lt=1)]


class CurateConfig(Section, frozen=True):
    """The rules of curation as a recipe has them: see ``CurateRules``; a threshold may be a quantile of margins.

    The margins are those of every pair of the run that was judged and is not a query's own video, whatever the verdict
    and wherever its confidence comes from. Each counts by its ``delta``, the number that is compared with the
    threshold: that of a censored margin is the finite end of its interval. Pairs without a margin do not count.
    ``alpha1`` comes to at most 0. A run that leaves pairs for later has the quantiles of those that it judged.
    """

    alpha1: float | Quantile = -6.0
    alpha2: float | Quantile = -8.0
    min_trusted: int = 1
    max_negatives: int = 3
    positives: Positives = "one"
    sure_positive: float | None = None

    def __post_init__(self) -> None:
        self.rules(Thresholds(-LIMIT, -LIMIT, 0))

    @property
    def follows_margins(self) -> bool:
        """Whether a threshold depends on what the judge says."""
        return isinstance(self.alpha1, Quantile) or isinstance(self.alpha2, Quantile)

    def thresholds(self, margins: array[float]) -> Thresholds:
        """What the thresholds come to; ``-LIMIT`` is a quantile of no margins, by which no pair could be told apart."""

        def value(threshold: float | Quantile) -> float:
            if not isinstance(threshold, Quantile):
                return threshold
            return quantile_of(margins, threshold.quantile) if margins else -LIMIT

        alpha1 = value(self.alpha1)
        return Thresholds(min(alpha1, 0.0), value(self.alpha2), len(margins))

    def rules(self, found: Thresholds | None, panel: PanelRules | None = None) -> CurateRules:
        """The rules by which pairs are told apart, given what quantiles came to, and when a panel was asked.

        Raises:
            InvalidRecord: a threshold is a quantile, and it is not known what it came to; or a number is no threshold.
        """

        def number(threshold: float | Quantile, came_to: float | None) -> float:
            if not isinstance(threshold, Quantile):
                return threshold
            if came_to is None:
                raise InvalidRecord("a quantile of margins needs what it came to")
            return came_to

        alpha1 = number(self.alpha1, found.alpha1 if found else None)
        alpha2 = number(self.alpha2, found.alpha2 if found else None)
        given = (self.min_trusted, self.max_negatives, self.positives, self.sure_positive)
        return CurateRules(alpha1, alpha2, *given, panel)


def quantile_of(margins: array[float], share: float) -> float:
    """The ceil(share * n)-th smallest of n margins, n > 0: one that occurs, so that nothing is rounded or in between.

    >>> quantile_of(array("d", [-1.0, -4.0, -3.0, -2.0]), 0.5)
    -3.0
    """
    place = math.ceil(Fraction(str(share)) * len(margins)) - 1  # exact: 0.07 * 100 is above 7 in floats
    return float(np.partition(np.frombuffer(margins), place)[place]) + 0.0  # which makes 0.0 of -0.0


def margins_of(judgements: Iterable[Judgement]) -> array[float]:
    """The margins of which quantiles are taken; see ``CurateConfig``."""
    return array("d", (one.margin.delta for one in judgements if one.margin is not None and not one.is_positive))


class FindThresholds(beam.CombineFn):
    """Judgements -> Thresholds: exact, and the same in whatever order and parts they come.

    All margins come together in one worker: 8 bytes a pair, and as much again to find the quantiles, which is 320 MB
    of 20 million pairs.
    """

    def __init__(self, config: CurateConfig) -> None:
        self.config = config

    def create_accumulator(self) -> array[float]:
        return array("d")

    def add_input(self, found: array[float], judgement: Judgement) -> array[float]:
        found.extend(margins_of([judgement]))
        return found

    def merge_accumulators(self, parts: Iterable[array[float]]) -> array[float]:
        merged = array("d")
        for part in parts:
            merged.extend(part)
        return merged

    def extract_output(self, found: array[float]) -> Thresholds:
        return self.config.thresholds(found)
