"""The margin rule: which candidates are too near to a query's own video, and what a quantile of it came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Annotated

import msgspec

from schemas.check import require
from schemas.configuration.section import Section
from schemas.query import Candidates

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class MarginRule(Section, frozen=True):
    """Which candidates score so near to a query's own video, or above it, that they may answer it as well.

    By the scores of one ``run`` (without one, of the only run). ``relative`` 0.95: above 95 % of the video's score
    (NV-Retriever, arXiv 2407.15831; for scores below zero above s - 0.05 |s|), which means something where the zero of
    the scores does. ``spread`` 0.05: above the point that lies 5 % of the way down from the video's score to the median
    candidate's, so that neither the zero nor the unit of the scores matters. Both look at one query at a time.
    ``quantile`` 0.1 is the spread at which one in ten of the run's queries has a candidate above the margin.
    """

    run: str | None = None
    relative: Share | None = None
    spread: Share | None = None
    quantile: Share | None = None

    def __post_init__(self) -> None:
        given = [rule for rule in (self.relative, self.spread, self.quantile) if rule is not None]
        require(len(given) == 1, "margin has one of relative, spread and quantile", self)

    def fitted(self, ways_down: Iterable[float]) -> FittedMargin:
        """What the ``quantile`` of these comes to, a spread of 0 where there are none."""
        ways = sorted(ways_down)
        spread = ways[min(int((self.quantile or 0.0) * len(ways)), len(ways) - 1)] if ways else 0.0
        return FittedMargin(spread, len(ways))

    def at(self, fitted: FittedMargin) -> MarginRule:
        """The rule by the spread that its ``quantile`` came to."""
        return MarginRule(self.run, spread=fitted.spread)

    def cut(self, positive: float, scores: Candidates) -> float:
        """The score above which a candidate is left out, given the video's own and those of the run."""
        if self.relative is not None:
            return positive - (1.0 - self.relative) * abs(positive)
        spread, middle = self.spread or 0.0, median(candidate.score for candidate in scores)
        return (1.0 - spread) * positive + spread * min(positive, middle)  # no difference, which may overflow


@dataclass(frozen=True, slots=True)
class FittedMargin:
    """What the quantile of a margin came to over so many ``queries``: a ``spread``, as in ``MarginRule``."""

    spread: float
    queries: int
