"""What an output's own tables say of its judge: labels, where their confidence came from, how tight it is."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field

from pipeline.outputs.report.summary import BIN_NATS
from pipeline.outputs.tables import Row, Tables

WIDTHS = (0.01, 0.1, 0.5, 2.0)
"""Upper bounds (nats) that the widths of margins' intervals are counted by."""

LITTLE_MASS = 0.5

_JUDGE = ("judge", "judge")  # the step of the first judge; a panel's have their own
_COLUMNS = "is_positive label delta delta_lo delta_hi censored label_mass confidence_source rationale".split()


@dataclass(slots=True)
class Coverage:
    """Counts over every judged pair of an output.

    ``margins`` are counted by (label, bin of BIN_NATS), ``widths`` by the first of WIDTHS that holds the interval (inf
    beyond the last). ``against_label`` are margins whose sign is not the label's, ``little_mass`` those where yes and
    no together have less than LITTLE_MASS of the probability. ``unread`` are rejections of the judge by reason,
    ``failed`` failures by class. ``positives`` are the margins of known positives that have one.
    """

    pairs: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    censored: Counter[str] = field(default_factory=Counter)
    widths: Counter[float] = field(default_factory=Counter)
    margins: Counter[tuple[str, int]] = field(default_factory=Counter)
    without_rationale: int = 0
    against_label: int = 0
    little_mass: int = 0
    positive_labels: Counter[str] = field(default_factory=Counter)
    positives: array[float] = field(default_factory=lambda: array("d"))
    unread: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)


def coverage(tables: Tables) -> Coverage:
    """Count the judgements of an output, and what was left unjudged."""
    found = Coverage()
    for row in tables.rows("judgements", _COLUMNS):
        _count(found, row)
    for row in tables.rows("rejections", ["stage", "step", "reason"]):
        if (row["stage"], row["step"]) == _JUDGE:
            found.unread[row["reason"]] += 1
    for row in tables.rows("failures", ["stage", "step", "error_class"]):
        if (row["stage"], row["step"]) == _JUDGE:
            found.failed[row["error_class"]] += 1
    return found


def _count(found: Coverage, row: Row) -> None:
    found.pairs += 1
    found.labels[row["label"]] += 1
    found.sources[row["confidence_source"]] += 1
    found.without_rationale += not row["rationale"]
    if row["is_positive"]:
        found.positive_labels[row["label"]] += 1
    delta = row["delta"]
    if delta is None:
        return
    found.margins[row["label"], int(delta // BIN_NATS)] += 1
    found.against_label += (delta > 0) != (row["label"] == "yes") and delta != 0
    found.little_mass += row["label_mass"] is not None and row["label_mass"] < LITTLE_MASS
    if row["censored"]:
        found.censored[row["censored"]] += 1
    else:
        width = row["delta_hi"] - row["delta_lo"]
        found.widths[next((bound for bound in WIDTHS if width <= bound), float("inf"))] += 1
    if row["is_positive"]:
        found.positives.append(delta)
