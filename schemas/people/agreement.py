"""Agreement of a judge with people: what the answers to blind questions say of all kept pairs of an output."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def plain(self) -> str:
        """``0.812 [0.703, 0.891]``."""
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    @property
    def percent(self) -> str:
        """``3.1 % [1.2, 5.4]``, of a share."""
        value, low, high = (f"{100 * each:.1f}" for each in (self.value, self.low, self.high))
        return f"{value} % [{low}, {high}]"


@dataclass(frozen=True, slots=True)
class CellAgreement:
    """One cell: so many answered of all its pairs in the output, and how many of them people judge otherwise."""

    cell: str
    of: int
    answered: int
    wrong: int
    error: Estimate


@dataclass(frozen=True, slots=True)
class Agreement:
    """The judge against people, over all kept pairs of the output.

    ``base_rate`` is the share of pairs that people call yes. ``false_negatives`` is the share of kept negatives that
    people call yes, ``wrong_positives`` of kept positives that they call no. Estimates are None where nothing was
    answered that they rest on; ``kappa`` also where both call everything the same, which leaves nothing to agree on.
    Pairs that were ``drawn`` from an earlier output and are kept no more are ``gone``, and decide nothing.
    """

    drawn: int
    answered: int
    unsure: int
    kappa: Estimate | None
    base_rate: Estimate | None
    false_negatives: Estimate | None
    wrong_positives: Estimate | None
    cells: tuple[CellAgreement, ...]
    gone: int = 0
