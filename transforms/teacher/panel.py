"""Which pairs a panel of further judges is asked about, and when enough of all judges say the same."""

from __future__ import annotations

import math

from schemas.check import require
from schemas.configuration.section import Section
from schemas.query import Judgement, Label, Opinion


class PanelRules(Section, frozen=True):
    """Of a pair that the panel is asked about, at least ``agree`` of all judges must say the same.

    The panel is asked where the margin is within ``margin_below`` nats of 0 or is not known (None: of every pair), and
    wherever the first judge calls another video than the query's own an answer. 8 is 2 nats beyond the paper's alpha1:
    where the truth is known none of 1,230 trusted negatives was wrong by it, and one was by 6 (benchmarks/README.md).
    With ``sure`` above 0, a verdict counts only where its margin is at least so many nats to its side: one that the
    judge itself doubts is nobody's word.
    """

    margin_below: float | None = 8.0
    agree: int = 2
    sure: float = 0.0

    def __post_init__(self) -> None:
        below = self.margin_below
        require(below is None or 0 < below < math.inf, "margin_below must be a number above 0, or null", below)
        require(self.agree >= 2, "agree must be at least 2, or nobody is asked to agree", self.agree)
        require(0 <= self.sure < math.inf, "sure must be a number of at least 0", self.sure)

    def asks_about(self, judgement: Judgement) -> bool:
        """Whether a pair that was judged so goes to the panel."""
        if self.margin_below is None or judgement.margin is None:
            return True
        suspected = judgement.label == "yes" and not judgement.is_positive
        return suspected or abs(judgement.margin.delta) < self.margin_below

    def stands(self, judgement: Judgement, label: Label) -> bool:
        """Whether enough judges say ``label`` of a pair, or only the first was to be asked."""
        return not self.asks_about(judgement) or self.votes(judgement, label) >= self.agree

    def votes(self, judgement: Judgement, label: Label) -> int:
        """How many judges say ``label``, the first among them."""
        verdicts: tuple[Judgement | Opinion, ...] = (judgement, *judgement.panel)
        return sum(self._counts(said, label) for said in verdicts)

    def _counts(self, said: Judgement | Opinion, label: Label) -> bool:
        if said.label != label or not self.sure:
            return said.label == label
        side = 1.0 if label == "yes" else -1.0
        return said.margin is not None and side * said.margin.delta >= self.sure
