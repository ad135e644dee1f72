"""Thresholds that fit the judge: numbers, or fitted to the margins that a run's own pairs got."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Annotated

import apache_beam as beam
import msgspec
import numpy as np

from prompts.margin import LIMIT
from schemas.check import InvalidRecord, require
from schemas.configuration.section import Section
from schemas.query import Judgement
from transforms.curate.curate_query import CurateRules, Positives
from transforms.curate.strata import Thresholds
from transforms.teacher.panel import PanelRules

Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Fitted(Section, frozen=True, omit_defaults=True):
    """A threshold that follows margins, in one of two ways.

    ``quantile``: the least margin that this share of all candidates do not exceed; see ``quantile_of``.
    ``calibrated``: the highest at or below which at most this share of the known positives lies, which are the queries'
    own videos; see ``below_all_but``. That many relevant videos would be trusted as negatives.
    """

    quantile: Share | None = None
    calibrated: Share | None = None

    def __post_init__(self) -> None:
        given = [share for share in (self.quantile, self.calibrated) if share is not None]
        require(
            len(given) == 1, "a threshold that is fitted has one of quantile and calibrated", msgspec.to_builtins(self)
        )


class CurateConfig(Section, frozen=True):
    """The rules of curation as a recipe has them: see ``CurateRules``; a threshold may be fitted to margins.

    The margins of a quantile are those of every pair of the run that was judged and is not a query's own video,
    whatever the verdict and wherever its confidence comes from. Each counts by its ``delta``, the number that is
    compared with the threshold: that of a censored margin is the finite end of its interval. Pairs without a margin do
    not count. Known positives are the other pairs that were judged, those of a query and its own video. ``alpha1``
    comes to at most 0. A run that leaves pairs for later has the thresholds of those that it judged.
    """

    alpha1: float | Fitted = -6.0
    alpha2: float | Fitted = -8.0
    min_trusted: int = 1
    max_negatives: int = 3
    positives: Positives = "one"
    sure_positive: float | None = None

    def __post_init__(self) -> None:
        by_positives = isinstance(self.alpha2, Fitted) and self.alpha2.calibrated is not None
        require(not by_positives, "alpha2 is no threshold of negatives: it may be a number or a quantile", "calibrated")
        self.rules(Thresholds(-LIMIT, -LIMIT, 0))

    @property
    def follows_margins(self) -> bool:
        """Whether a threshold depends on what the judge says."""
        return isinstance(self.alpha1, Fitted) or isinstance(self.alpha2, Fitted)

    def thresholds(self, margins: Margins) -> Thresholds:
        """What the thresholds come to; ``-LIMIT`` is what is fitted to no margins, by which no pair is told apart."""

        def value(threshold: float | Fitted) -> float:
            if not isinstance(threshold, Fitted):
                return threshold
            if threshold.calibrated is not None:
                return below_all_but(margins.positives, threshold.calibrated) if margins.positives else -LIMIT
            return quantile_of(margins.others, threshold.quantile or 0.0) if margins.others else -LIMIT

        alpha1 = value(self.alpha1)
        by_positives = isinstance(self.alpha1, Fitted) and self.alpha1.calibrated is not None
        known = len(margins.positives) if by_positives else 0
        return Thresholds(min(alpha1, 0.0), value(self.alpha2), len(margins.others), known)

    def rules(self, found: Thresholds | None, panel: PanelRules | None = None) -> CurateRules:
        """The rules by which pairs are told apart, given what fitted thresholds came to, and when a panel was asked.

        Raises:
            InvalidRecord: a threshold is fitted, and it is not known what it came to; or a number is no threshold.
        """

        def number(threshold: float | Fitted, came_to: float | None) -> float:
            if not isinstance(threshold, Fitted):
                return threshold
            if came_to is None:
                raise InvalidRecord("a threshold that is fitted to margins needs what it came to")
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


def below_all_but(positives: array[float], share: float) -> float:
    """The highest number at or below which at most ``share`` of the positives' margins lie; there must be some.

    It is next below the margin that would be one too many, so that equal margins are not parted.

    >>> round(below_all_but(array("d", [5.0, -1.0, 3.0, -4.0]), 0.25), 9), below_all_but(array("d", [2.0]), 0.1) < 2.0
    (-1.0, True)
    """
    place = most_below(share, len(positives))
    return float(np.nextafter(np.partition(np.frombuffer(positives), place)[place], -np.inf))


def most_below(share: float, positives: int) -> int:
    """How many of so many known positives may lie at or below a threshold that is calibrated to a share of them."""
    return math.floor(Fraction(str(share)) * positives)


def calibration_text(share: float, positives: int) -> str:
    """What a threshold that is calibrated to a share of so many known positives is.

    >>> calibration_text(0.02, 330), calibration_text(0.02, 22)
    ('at or below which at most 6 of 330 known positives lie', \
'at or below which none of 22 known positives lies, for 0.02 of them is less than one')
    """
    if most := most_below(share, positives):
        return f"at or below which at most {most:,} of {positives:,} known positives lie"
    return f"at or below which none of {positives:,} known positives lies, for {share:g} of them is less than one"


@dataclass
class Margins:
    """The margins (nats) that thresholds are fitted to: of ``others``, pairs with a candidate, and of ``positives``."""

    others: array[float] = field(default_factory=lambda: array("d"))
    positives: array[float] = field(default_factory=lambda: array("d"))

    def add(self, judgements: Iterable[Judgement]) -> Margins:
        """These and those of the judgements that have any; see ``CurateConfig``."""
        for one in judgements:
            if one.margin is not None:
                (self.positives if one.is_positive else self.others).append(one.margin.delta)
        return self


class FindThresholds(beam.CombineFn):
    """Judgements -> Thresholds: exact, and the same in whatever order and parts they come.

    All margins come together in one worker: 8 bytes a pair, and as much again to find the quantiles, which is 320 MB
    of 20 million pairs.
    """

    def __init__(self, config: CurateConfig) -> None:
        self.config = config

    def create_accumulator(self) -> Margins:
        return Margins()

    def add_input(self, found: Margins, judgement: Judgement) -> Margins:
        return found.add([judgement])

    def merge_accumulators(self, parts: Iterable[Margins]) -> Margins:
        merged = Margins()
        for part in parts:
            merged.others.extend(part.others)
            merged.positives.extend(part.positives)
        return merged

    def extract_output(self, found: Margins) -> Thresholds:
        return self.config.thresholds(found)
