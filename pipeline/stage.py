"""What every stage hands on: its results, and an account of everything that did not become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import apache_beam as beam

from schemas.account import Failure, Outcome, Tally
from transforms.ledger import CountOutcome

Step = tuple[str, str]


def reason_of(item: Any) -> str:
    """The reason of a rejection or deferral, or of any record that has one."""
    reason: str = item.reason
    return reason


def error_class_of(item: Failure) -> str:
    """The error class of a failure."""
    return item.error_class


@dataclass
class Account:
    """Collects, while the graph is built, the rejections, failures, deferrals and tallies of all steps.

    ``steps`` lists every ledger line in order, so that a step that saw nothing has a line too.
    """

    rejections: list[beam.PCollection] = field(default_factory=list)
    failures: list[beam.PCollection] = field(default_factory=list)
    deferrals: list[beam.PCollection] = field(default_factory=list)
    tallies: list[beam.PCollection] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def step(
        self,
        stage: str,
        step: str,
        entered: beam.PCollection,
        left: beam.PCollection,
        rejections: beam.PCollection | None = None,
        failures: beam.PCollection | None = None,
        deferred: beam.PCollection | None = None,
        left_out: beam.PCollection | None = None,
        left_waiting: beam.PCollection | None = None,
    ) -> None:
        """Enter one step in the books.

        ``left_out`` and ``left_waiting`` are rejected and deferred records of the step's own kind, with a ``reason``.
        """
        self.steps.append((stage, step))
        outcomes: list[tuple[Outcome, beam.PCollection | None, Callable[[Any], str] | None]] = [
            ("in", entered, None),
            ("out", left, None),
            ("rejected", rejections if rejections is not None else left_out, reason_of),
            ("failed", failures, error_class_of),
            ("deferred", deferred if deferred is not None else left_waiting, reason_of),
        ]
        for outcome, items, reason in outcomes:
            if items is None:
                continue
            counter = CountOutcome(stage, step, outcome, *([reason] if reason else []))
            self.tallies.append(items | f"Count {stage} {step} {outcome}" >> counter)
        if rejections is not None:
            self.rejections.append(rejections)
        if failures is not None:
            self.failures.append(failures)
        if deferred is not None:
            self.deferrals.append(deferred)

    def emitted(self, table: str, rows: beam.PCollection, files: beam.PCollection) -> None:
        """Enter the writing of a table in the books: rows that were given, rows that are in its files."""
        self.steps.append(("emit", table))
        self.tallies.append(rows | f"Count emit {table} in" >> CountOutcome("emit", table, "in"))
        out = beam.Map(lambda file: Tally("emit", table, "out", "", file.rows))
        self.tallies.append(files | f"Count emit {table} out" >> out)


def merge(collections: Iterable[beam.PCollection], label: str, pipeline: beam.Pipeline) -> beam.PCollection:
    """All items of several collections, none of which need exist."""
    found = list(collections)
    if not found:
        return pipeline | label >> beam.Create([], reshuffle=False)
    return tuple(found) | label >> beam.Flatten()
