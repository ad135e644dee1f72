"""Live counts of what the steps of this process have done, for whoever shows progress."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import apache_beam as beam

T = TypeVar("T")

# Counters live in the process, because the local runner's workers are threads of it; elsewhere the runner's own
# monitoring shows the same steps.
_counts: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()


def advance(step: str, outcome: str, n: int = 1) -> None:
    """Add ``n`` to a step's count of "in", "done" or "failed"."""
    with _lock:
        _counts[step, outcome] += n


def snapshot() -> Counter[tuple[str, str]]:
    """A copy of the counts by (step, outcome)."""
    with _lock:
        return Counter(_counts)


def reset() -> None:
    """Forget all counts; called when a run starts."""
    with _lock:
        _counts.clear()


@dataclass
class Advance(beam.PTransform):
    """Passes items through and counts them at a step."""

    step: str
    outcome: str

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        return items | beam.ParDo(_Advance(self.step, self.outcome))


class _Advance(beam.DoFn):
    def __init__(self, step: str, outcome: str) -> None:
        self.step, self.outcome = step, outcome

    def process(self, item: T) -> Iterator[T]:
        advance(self.step, self.outcome)
        yield item
