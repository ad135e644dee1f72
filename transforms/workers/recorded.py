"""Steps that ask the journal: what a bundle recorded is sent before the bundle counts, and its work counted with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.journal.counts import Work, WorkBySteps, add_up, counted_in, join
from transforms.journal.journal import Journal
from transforms.protocols.engine import Engine, Waits
from transforms.workers.window import InWindow, Outcome

WORK = "work"  # the tag of what the calls of a step came to
Step = Callable[..., Iterable[Any]]


def recorded_map(journal: Journal, engine: Engine | None, step: Step, *args: Any, **options: Any) -> beam.ParDo:
    """``beam.FlatMap(step, *args, **options)`` for a step that asks the journal.

    Its second output, ``WORK``, is (step of the journal, Work), which ``AddUpWork`` takes. Where the engine waits for a
    server, several elements are worked on at a time, see ``flat_map``.
    """
    if isinstance(engine, Waits):
        return beam.ParDo(_RecordedInWindow(journal, engine, step, args, options))
    return beam.ParDo(_Recorded(journal, step, args, options))


class _Recorded(beam.DoFn):
    def __init__(self, journal: Journal, step: Step, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._journal, self._step, self._args, self._options = journal, step, args, options

    def start_bundle(self) -> None:
        self._work: WorkBySteps = defaultdict(Work)
        self._journal.begin_bundle()

    def process(self, element: Any) -> Iterator[Any]:
        with counted_in(self._work):
            outputs = list(self._step(element, *self._args, **self._options))
        yield from outputs

    def finish_bundle(self) -> Iterator[Any]:
        self._journal.flush()
        yield from _tagged(self._work)

    def teardown(self) -> None:
        self._journal.flush()


class _RecordedInWindow(InWindow):
    def __init__(
        self, journal: Journal, engine: Waits, step: Step, args: tuple[Any, ...], options: dict[str, Any]
    ) -> None:
        super().__init__(engine, _counted, (step, *args), options)
        self._journal = journal

    def start_bundle(self) -> None:
        super().start_bundle()
        self._work: WorkBySteps = defaultdict(Work)
        self._journal.begin_bundle()

    def outputs(self, outcome: Outcome) -> Iterable[Any]:
        *outputs, work = super().outputs(outcome)
        join(self._work, work)
        return outputs

    def finish_bundle(self) -> Iterator[Any]:
        yield from super().finish_bundle()
        self._journal.flush()
        yield from _tagged(self._work)

    def teardown(self) -> None:
        self._journal.flush()


def _counted(element: Any, step: Step, *args: Any, **options: Any) -> Iterator[Any]:
    """What the step makes of an element, and then what it came to; in a thread of the window."""
    work: WorkBySteps = defaultdict(Work)
    with counted_in(work):
        outputs = list(step(element, *args, **options))
    yield from outputs
    yield work


def _tagged(work: WorkBySteps) -> Iterator[beam.pvalue.TaggedOutput]:
    for item in work.items():
        yield beam.pvalue.TaggedOutput(WORK, GlobalWindows.windowed_value(item))


@dataclass
class AddUpWork(beam.PTransform):
    """(step, Work) of all bundles -> (step, name, how many)."""

    def expand(self, work: beam.PCollection) -> beam.PCollection:
        return work | "Of a step" >> beam.GroupByKey() | "Add up" >> beam.FlatMapTuple(_added_up)


def _added_up(step: str, works: Iterable[Work]) -> Iterator[tuple[str, str, int]]:
    for name, amount in sorted(add_up(works).items()):
        yield step, name, amount
