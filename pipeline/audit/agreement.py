"""Agreement of the judge with people: Cohen's kappa, base rate and errors, weighted back from cells to the whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.audit.blind import Drawn
from pipeline.outputs.report.panel import Tables2x2, cohens_kappa
from schemas.example import POSITIVES
from schemas.people.agreement import Agreement, CellAgreement, Estimate

_DRAWS = 4000
_LEVEL = 0.95


def agreement(
    drawn: Sequence[Drawn], answers: Mapping[tuple[str, str], str], seed: int = 0, gone: int = 0
) -> Agreement:
    """Compare; ``answers`` are "yes", "no" or "unsure" by query id and video id, ``gone`` see ``Agreement``.

    Each answered pair stands for as many pairs of its cell as there are for each answer. Kappa's interval is that of
    the percentile bootstrap within cells; those of rates are of Jeffreys' Beta posterior in each cell, for it is no
    point where no error was seen.
    """
    tables: dict[str, Tables2x2] = {}
    sizes: dict[str, int] = {}
    unsure = 0
    for one in drawn:
        said = answers.get((one.query_id, one.video_id))
        unsure += said == "unsure"
        sizes[one.cell] = one.of
        table = tables.setdefault(one.cell, np.zeros((2, 2)))
        if said in ("yes", "no"):
            table[int(one.judged == "yes"), int(said == "yes")] += 1
    cells = sorted(cell for cell, table in tables.items() if table.any())
    rng = np.random.default_rng(seed)
    counts = np.array([tables[cell] for cell in cells]).reshape(-1, 2, 2)
    weights = np.array([sizes[cell] for cell in cells], float)
    negative = [i for i, cell in enumerate(cells) if cell not in POSITIVES]
    positive = [i for i, cell in enumerate(cells) if cell in POSITIVES]
    yes = counts[:, :, 1].sum(axis=1)
    return Agreement(
        drawn=len(drawn) + gone,
        answered=int(counts.sum()),
        unsure=unsure,
        kappa=_kappa(counts, weights, rng),
        base_rate=_rate(yes, counts, weights, range(len(cells)), rng),
        false_negatives=_rate(yes, counts, weights, negative, rng),
        wrong_positives=_rate(counts[:, :, 0].sum(axis=1), counts, weights, positive, rng),
        cells=tuple(_cell(cell, sizes[cell], tables[cell], rng) for cell in cells),
        gone=gone,
    )


def _kappa(counts: Tables2x2, weights: Any, rng: np.random.Generator) -> Estimate | None:
    if not len(counts):
        return None
    answered = counts.sum(axis=(1, 2))
    each = (weights / answered)[:, None, None]
    value = float(cohens_kappa((counts * each).sum(axis=0)))
    if np.isnan(value):
        return None
    resampled = sum(
        rng.multinomial(int(n), table.ravel() / n, _DRAWS).reshape(-1, 2, 2) * weight
        for n, table, weight in zip(answered, counts, each, strict=True)
    )
    low, high = np.nanquantile(cohens_kappa(np.asarray(resampled)), _bounds())
    return Estimate(value, float(low), float(high))


def _rate(
    found: Any, counts: Tables2x2, weights: Any, cells: Iterable[int], rng: np.random.Generator
) -> Estimate | None:
    """The share of ``found`` of all answered, in these cells, each by its weight."""
    chosen = list(cells)
    if not chosen:
        return None
    k, n = found[chosen], counts.sum(axis=(1, 2))[chosen]
    weight = weights[chosen] / weights[chosen].sum()
    posterior = rng.beta(k + 0.5, n - k + 0.5, (_DRAWS, len(chosen))) @ weight
    low, high = np.quantile(posterior, _bounds())
    value = float((k / n) @ weight)
    return Estimate(value, min(float(low), value), max(float(high), value))


def _cell(cell: str, of: int, table: Tables2x2, rng: np.random.Generator) -> CellAgreement:
    wrong = table[0, 1] + table[1, 0]
    error = _rate(np.array([wrong]), table[None], np.ones(1), [0], rng)
    assert error is not None
    return CellAgreement(cell, of, int(table.sum()), int(wrong), error)


def _bounds() -> list[float]:
    return [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2]


def agreement_text(output: str, found: Agreement) -> str:
    """As lines for a terminal."""
    lines = [
        f"{output}: {found.answered} of {found.drawn} pairs answered yes or no, {found.unsure} unsure"
        + (f"; {found.gone} are no longer kept here, and left out" if found.gone else ""),
        f"  kappa of judge and people    {found.kappa.plain if found.kappa else 'not known'}",
        f"  people say yes to            {_percent(found.base_rate)}",
        f"  false negatives that are left {_percent(found.false_negatives)} of kept negatives",
        f"  wrong positives              {_percent(found.wrong_positives)} of kept positives",
        "",
        f"  {'cell':<32}{'pairs':>9}{'answered':>10}{'judge wrong':>13}",
    ]
    for cell in found.cells:
        name = cell.cell.replace("_", " ")
        lines.append(f"  {name:<32}{cell.of:>9,}{cell.answered:>10,}{cell.wrong:>13,}  {_percent(cell.error)}")
    return "\n".join(lines)


def _percent(estimate: Estimate | None) -> str:
    return estimate.percent if estimate else "not known"
