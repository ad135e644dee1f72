"""Live counts of what the steps of this process have done, for whoever shows progress."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import apache_beam as beam
from apache_beam.metrics import Metrics

T = TypeVar("T")
Event = Literal["in", "done", "cached", "failed", "rejected", "deferred"]


@dataclass(slots=True)
class StepCount:
    """What one step was given and what it has done; ``first_s`` and ``last_s`` are when it began and last moved.

    ``cached`` results were in the journal and are among those given and done. What ``failed``, was ``rejected`` (as is
    a reply that does not parse) or ``deferred`` to a later run is no more to be waited for than what is done.
    """

    given: int = 0
    done: int = 0
    cached: int = 0
    failed: int = 0
    rejected: int = 0
    deferred: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    @property
    def due(self) -> int:
        """What is known to be its work."""
        return max(self.given, self.ended)

    @property
    def ended(self) -> int:
        """What nothing more is to be done about in this run."""
        return self.done + self.failed + self.rejected + self.deferred

    @property
    def rate_per_s(self) -> float:
        """Items done a second that were not cached, over the step's own time; 0 before it took any."""
        elapsed = self.last_s - self.first_s
        return max(0, self.done - self.cached) / elapsed if elapsed > 0 else 0.0


# Counters live in the process, because the local runner's workers are threads of it; elsewhere the runner keeps them
# too, as counts of Beam's.
NAMESPACE = "progress"
_counts: dict[str, StepCount] = {}
_announced: list[str] = []
_lock = threading.Lock()


def advance(step: str, event: Event, n: int = 1, now: float | None = None) -> None:
    """Add ``n`` to a step's count; ``now`` is in seconds on any clock (default: a monotonic one)."""
    moment = time.monotonic() if now is None else now
    with _lock:
        count = _counts.setdefault(step, StepCount(first_s=moment))
        if event == "in":
            count.given += n
            return
        if event == "cached":
            count.cached += n
            return
        setattr(count, event, getattr(count, event) + n)
        count.last_s = moment


def announce(text: str) -> None:
    """Have a line said to whoever watches the run."""
    with _lock:
        _announced.append(text)


def announcements() -> list[str]:
    """What was announced and not asked for yet."""
    with _lock:
        said, _announced[:] = list(_announced), []
    return said


def snapshot() -> Mapping[str, StepCount]:
    """A copy of the counts of the steps that have begun."""
    with _lock:
        return {step: replace(count) for step, count in _counts.items()}


def show(counts: Mapping[str, StepCount]) -> None:
    """Put counts that were kept elsewhere in the place of those of this process."""
    with _lock:
        _counts.update(counts)


def reset() -> None:
    """Forget all counts and lines; called when a run starts."""
    with _lock:
        _announced.clear()
        _counts.clear()


@dataclass
class Advance(beam.PTransform):
    """Passes items through and counts them at a step."""

    step: str
    event: Event

    def expand(self, items: beam.PCollection) -> beam.PCollection:
        return items | beam.ParDo(_Advance(self.step, self.event))


class _Advance(beam.DoFn):
    def __init__(self, step: str, event: Event) -> None:
        self.step, self.event = step, event
        self.counter = Metrics.counter(NAMESPACE, f"{step}.{event}")

    def process(self, item: T) -> Iterator[T]:
        advance(self.step, self.event)
        self.counter.inc()
        yield item
