"""What every stage hands on: its results, and an account of everything that did not become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import apache_beam as beam

from transforms.ledger import AddUp, Count, Key, key_of
from transforms.workers.recorded import AddUpWork

Step = tuple[str, str]


@dataclass
class LedgerBuilder:
    """Collects, while the graph is built, what goes into, comes out of and is lost at every step.

    ``steps`` lists every ledger line in order, so that a step that saw nothing has a line too. ``losses`` have rows in
    the tables "rejections" and "failures"; ``counts`` are those of all steps, (Key, how many), and
    ``works`` what the steps that ask the journal did.
    """

    losses: list[beam.PCollection] = field(default_factory=list)
    counts: list[beam.PCollection] = field(default_factory=list)
    works: list[beam.PCollection] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def step(
        self,
        stage: str,
        step: str,
        entered: beam.PCollection,
        left: beam.PCollection,
        losses: beam.PCollection | None = None,
        listed: bool = True,
    ) -> None:
        """Enter one step in the ledger; its losses are ``listed`` unless their rows are in a table of their own."""
        self.steps.append((stage, step))
        self.count(f"Count {stage} {step} in", entered, (stage, step, "in", ""))
        self.count(f"Count {stage} {step} out", left, (stage, step, "out", ""))
        if losses is not None:
            self.count(f"Count {stage} {step} lost", losses, key_of)
            if listed:
                self.losses.append(losses)

    def emitted(self, table: str, rows: beam.PCollection, files: beam.PCollection) -> None:
        """Enter the writing of a table in the ledger: rows that were given, rows that are in its files."""
        self.steps.append(("emit", table))
        self.count(f"Count emit {table} in", rows, ("emit", table, "in", ""))
        self.count(f"Count emit {table} out", files, ("emit", table, "out", ""), attrgetter("rows"))

    def count(
        self,
        label: str,
        items: beam.PCollection,
        key: Key | Callable[[Any], Key],
        amount: Callable[[Any], int] | None = None,
    ) -> None:
        """Count items; see ``Count``."""
        self.counts.append(items | label >> beam.ParDo(Count(key, amount)).with_output_types(tuple[Key, int]))

    def work(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """What was done and what was found done: (step of the journal, name, how many)."""
        return merge(self.works, "All work", pipeline) | "Add up work" >> AddUpWork()

    def tallies(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """The Tally of every stage, step, outcome and reason."""
        return merge(self.counts, "All counts", pipeline) | "Add up" >> AddUp()


def merge(collections: Iterable[beam.PCollection], label: str, pipeline: beam.Pipeline) -> beam.PCollection:
    """All items of several collections, none of which need exist."""
    found = list(collections)
    if not found:
        return pipeline | label >> beam.Create([], reshuffle=False)
    return tuple(found) | label >> beam.Flatten()
