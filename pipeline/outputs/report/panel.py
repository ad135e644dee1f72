"""How a panel's judges agree with the first and with each other, over the pairs that they were asked about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from pipeline.outputs.tables import Tables
from schemas.losses import STEPS_OF_JUDGE
from transforms.ledger import Line

Tables2x2 = np.ndarray[Any, np.dtype[np.float64]]  # (…, one judge no or yes, the other no or yes)
_FIRST = "judge"  # the first judge's name in the ledger


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """A judge of the panel: pairs that it was asked about, verdicts that it gave of them, and how many are yes."""

    name: str
    asked: int
    said: int
    yes: int

    @property
    def base_rate(self) -> float | None:
        """The share of its verdicts that are yes."""
        return self.yes / self.said if self.said else None


@dataclass(frozen=True, slots=True)
class TwoJudges:
    """Two judges over the ``pairs`` of which both gave a verdict: the share on which they agree, and Cohen's kappa.

    ``base_rates`` are the shares that each calls yes. Kappa is None where chance alone agrees on everything.
    """

    names: tuple[str, str]
    pairs: int
    agreed: float
    base_rates: tuple[float, float]
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Panel:
    """All judges of a panel, and the first with each of them and they with each other."""

    judges: tuple[JudgeCounts, ...]
    twos: tuple[TwoJudges, ...]


def compare_judges(tables: Tables, lines: Iterable[Line]) -> Panel | None:
    """Of an output whose pairs were put to a panel; None of one without."""
    asked = {line.step: line.entered for line in lines if line.stage == "judge" and line.step not in STEPS_OF_JUDGE}
    if not asked:
        return None
    verdicts: Counter[tuple[str, str]] = Counter()  # judge, label
    both: dict[tuple[str, str], Tables2x2] = {two: np.zeros((2, 2)) for two in combinations([_FIRST, *asked], 2)}
    for row in tables.rows("judgements", ["label", "panel.list.element.judge", "panel.list.element.label"]):
        if not row["panel"]:
            continue
        said = {_FIRST: row["label"], **{opinion["judge"]: opinion["label"] for opinion in row["panel"]}}
        verdicts.update(said.items())
        for (a, b), table in both.items():
            if a in said and b in said:
                table[int(said[a] == "yes"), int(said[b] == "yes")] += 1
    judges = (
        JudgeCounts(name, number, verdicts[name, "yes"] + verdicts[name, "no"], verdicts[name, "yes"])
        for name, number in asked.items()
    )
    return Panel(tuple(judges), tuple(_two(names, table) for names, table in both.items() if table.any()))


def _two(names: tuple[str, str], table: Tables2x2) -> TwoJudges:
    pairs, kappa = float(table.sum()), float(cohens_kappa(table))
    rates = (float(table[1].sum()) / pairs, float(table[:, 1].sum()) / pairs)
    return TwoJudges(names, round(pairs), float(np.trace(table)) / pairs, rates, None if np.isnan(kappa) else kappa)


def cohens_kappa(table: Tables2x2) -> Any:
    """Cohen's kappa (1960) of tables of counts or weights (…, 2, 2); NaN where chance alone agrees on everything."""
    total = table.sum(axis=(-2, -1))
    observed = np.trace(table, axis1=-2, axis2=-1) / total
    by_chance = (table.sum(axis=-1) * table.sum(axis=-2)).sum(axis=-1) / total**2
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance < 1, (observed - by_chance) / (1 - by_chance), np.nan)
