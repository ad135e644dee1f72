"""What every stage hands on: its results, and an account of everything that did not become one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import apache_beam as beam

from transforms.emit.shards import WrittenFile
from transforms.ledger import AddUp, Count, Counted, Key, key_of
from transforms.workers.recorded import AddUpWork

Step = tuple[str, str]


@dataclass
class LedgerBuilder:
    """Collects, while the graph is built, what goes into, comes out of and is lost at every step.

    ``steps`` lists every ledger line in order, so that a step that saw nothing has a line too. ``losses`` have rows in
    the tables "rejections" and "failures", ``unlisted`` have none; ``counts`` are how each other collection is counted,
    for all steps that it goes into or comes out of at once, and ``works`` what the steps that ask the journal did.
    """

    losses: list[beam.PCollection] = field(default_factory=list)
    unlisted: list[beam.PCollection] = field(default_factory=list)
    counts: dict[beam.PCollection, list[Counted]] = field(default_factory=dict)
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
        self._count(entered, (stage, step, "in", ""))
        self._count(left, (stage, step, "out", ""))
        if losses is not None:
            (self.losses if listed else self.unlisted).append(losses)

    def emitted(self, tables: Mapping[str, beam.PCollection], files: beam.PCollection) -> None:
        """Enter the writing of every table in the ledger: rows that were given, rows that are in its files."""
        for table, rows in tables.items():
            self.steps.append(("emit", table))
            self._count(rows, ("emit", table, "in", ""))
        self._count(files, _table_of, attrgetter("rows"))

    def _count(
        self, items: beam.PCollection, key: Key | Callable[[Any], Key], amount: Callable[[Any], int] | None = None
    ) -> None:
        self.counts.setdefault(items, []).append((key, amount))

    def work(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """What was done and what was found done: (step of the journal, name, how many)."""
        return merge(self.works, "All work", pipeline) | "Add up work" >> AddUpWork()

    def counted(self, pipeline: beam.Pipeline) -> dict[beam.PCollection, list[Counted]]:
        """All collections, each with how it is counted; the losses of all steps are one."""
        return {**self.counts, merge([*self.losses, *self.unlisted], "All lost", pipeline): [(key_of, None)]}

    def tallies(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """The Tally of every stage, step, outcome and reason."""
        counts = [
            items | f"Count {n}" >> beam.ParDo(Count(*how)).with_output_types(tuple[Key, int])
            for n, (items, how) in enumerate(self.counted(pipeline).items())
        ]
        return merge(counts, "All counts", pipeline) | "Add up" >> AddUp()


def _table_of(file: WrittenFile) -> Key:
    return "emit", file.path.partition("/")[0], "out", ""


def merge(collections: Iterable[beam.PCollection], label: str, pipeline: beam.Pipeline) -> beam.PCollection:
    """All items of several collections, none of which need exist."""
    found = list(collections)
    if not found:
        return pipeline | label >> beam.Create([], reshuffle=False)
    return tuple(found) | label >> beam.Flatten()
