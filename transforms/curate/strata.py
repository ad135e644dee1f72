"""Strata: what kind of positive or negative a judged pair is, by the teacher's label and margin."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.example import Stratum
from schemas.query import Judgement, Label
from transforms.teacher.panel import PanelRules


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the thresholds of a run came to (nats), whose quantiles are those of the margins of so many ``pairs``.

    ``positives`` are how many known positives alpha1 was calibrated on, 0 where it was not.
    """

    alpha1: float
    alpha2: float
    pairs: int
    positives: int = 0


def stratum_of(
    judgement: Judgement, alpha1: float = -6.0, alpha2: float = -8.0, confirmed_by: PanelRules | None = None
) -> Stratum:
    """The stratum of a pair, as in RankVideo (arXiv 2602.02444, section 4.2); delta is the margin in nats.

    The labelled positive is "positive", whatever the teacher says of it. Of the other candidates, label no and
    delta <= alpha1 is a "trusted_negative", label yes and delta > alpha2 a "suspected_positive" (likely a false
    negative), and everything else, where the teacher is unsure, a "hard_negative". With the paper's thresholds no yes
    can reach alpha2 unless it contradicts its own margin by 8 nats, so that in practice every yes is suspected.

    Where a panel says enough times yes (see ``PanelRules``), a suspected positive is a "confirmed_positive".

    Without a margin the careful side is taken: a no is never trusted, since nothing says how sure the teacher is, and
    a yes is always suspected, since training on a false negative costs more than losing a hard one.
    """
    delta = None if judgement.margin is None else judgement.margin.delta
    found = stratum(judgement.is_positive, judgement.label, delta, alpha1, alpha2)
    if found == "suspected_positive" and confirmed_by and confirmed_by.stands(judgement, "yes"):
        return "confirmed_positive"
    return found


def stratum(is_positive: bool, label: Label, delta: float | None, alpha1: float, alpha2: float) -> Stratum:
    """See ``stratum_of``, without a panel; ``delta`` is None where there is no margin."""
    if is_positive:
        return "positive"
    if label == "no":
        return "trusted_negative" if delta is not None and delta <= alpha1 else "hard_negative"
    return "suspected_positive" if delta is None or delta > alpha2 else "hard_negative"
