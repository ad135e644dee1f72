"""How much work a run did and how much it found done: counted with each bundle, or added up by the runner."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from numpy.typing import NDArray

from schemas.usage import Usage
from transforms.progress import advance

WorkOutcome = Literal["cached", "run", "failed", "deferred"]
EARLIER = "earlier_"  # before the names of what other runs used
CACHEABLE, SILENT = "cacheable_tokens", "silent"
UNTOLD = "untold"  # replies without the log-probabilities that they were asked for, which a plan found
_NAMESPACE = "hardquery"


class Found(NamedTuple):
    """A record of this very run that a call found: its number, what it counts for, and whether it is the answer."""

    record: int
    counts: dict[str, int]
    answers: bool


@dataclass
class Work:
    """What calls of one step came to: counts by name, the numbers of the records they made, and those they found.

    A record of this run was made for another call, or by an attempt of this bundle that came to nothing: only who sees
    all bundles that count can tell, see ``add_up``.
    """

    counts: Counter[str] = field(default_factory=Counter)
    made: array[int] = field(default_factory=lambda: array("Q"))
    found: list[Found] = field(default_factory=list)


WorkBySteps = defaultdict[str, Work]
_aside: ContextVar[list[tuple[str, str, int]] | None] = ContextVar("aside", default=None)
_bundle: ContextVar[WorkBySteps | None] = ContextVar("bundle", default=None)


def count(step: str, outcome: WorkOutcome, usage: Usage | None = None, record: int | None = None) -> None:
    """Take down what became of one result: found, made, not to be had, or left for later; and what was used for it.

    Counts are what is known of a ``Usage``, by name. Besides, ``cacheable_tokens`` are the input tokens of which the
    server told how many it had cached, and ``silent`` are replies whose server did not tell their tokens. ``record`` is
    the number of the record that this call made.
    """
    for name, amount in _counts(outcome, usage).items():
        add(step, name, amount)
    if outcome == "cached":
        advance(step, "cached")
    if record is not None and (bundle := _bundle.get()) is not None:
        bundle[step].made.append(record)


def count_found(step: str, outcome: WorkOutcome, usage: Usage | None, record: int, answers: bool) -> None:
    """Take down that a call found a record of this very run, which had this outcome; ``answers`` if it is the answer.

    Outside of a bundle it is one more result that was found.
    """
    if (bundle := _bundle.get()) is not None:
        bundle[step].found.append(Found(record, _counts(outcome, usage), answers))
        if answers:
            advance(step, "cached")
    elif answers:
        count(step, "cached")


def count_earlier(step: str, usage: Usage | None) -> None:
    """Take down what earlier runs used for a result that this one found."""
    for name, amount in counts_of(usage).items():
        add(step, EARLIER + name, amount)


def _counts(outcome: WorkOutcome, usage: Usage | None) -> dict[str, int]:
    counts = {outcome: 1, **counts_of(usage)}
    if outcome == "run" and usage is not None and usage.input_tokens is None:
        counts[SILENT] = 1
    return counts


def counts_of(usage: Usage | None) -> dict[str, int]:
    """What is known to have been used, and is not nothing, by name; see ``count``."""
    if usage is None:
        return {}
    known = {name: amount for name, amount in usage.known().items() if amount}
    if usage.cached_tokens is not None and usage.input_tokens:
        known[CACHEABLE] = usage.input_tokens
    return known


def add(step: str, name: str, amount: int) -> None:
    """Add to one count of a step: of the bundle, if there is one, else of the runner, which ``work_of`` gives back."""
    if (bundle := _bundle.get()) is not None:
        bundle[step].counts[name] += amount
    elif (aside := _aside.get()) is not None:
        aside.append((step, name, amount))
    else:
        Metrics.counter(_NAMESPACE, f"{step}.{name}").inc(amount)


@contextmanager
def counted_aside() -> Iterator[list[tuple[str, str, int]]]:
    """What ``add`` is given meanwhile, as a list: Beam takes counts only from the thread that it runs a bundle in."""
    aside: list[tuple[str, str, int]] = []
    token = _aside.set(aside)
    try:
        yield aside
    finally:
        _aside.reset(token)


@contextmanager
def counted_in(bundle: WorkBySteps) -> Iterator[None]:
    """Whatever is counted meanwhile, in this thread, goes to the bundle."""
    token = _bundle.set(bundle)
    try:
        yield
    finally:
        _bundle.reset(token)


def join(bundle: WorkBySteps, other: WorkBySteps) -> None:
    """Add what was counted elsewhere to the bundle that it belongs to."""
    for step, work in other.items():
        bundle[step].counts.update(work.counts)
        bundle[step].made += work.made
        bundle[step].found += work.found


def add_up(works: Iterable[Work]) -> Counter[str]:
    """The counts of one step from the work of all bundles that count, each of them once.

    A record that one of them made is counted there. One that was only found was made by an attempt that came to
    nothing, and is counted once; whoever found it besides found it done.
    """
    counts: Counter[str] = Counter()
    made: list[NDArray[np.uint64]] = []
    found: list[Found] = []
    for work in works:
        counts.update(work.counts)
        made.append(np.asarray(work.made, np.uint64))
        found += work.found
    numbers = np.array([one.record for one in found], np.uint64)
    counted = {int(number) for of_bundle in made for number in of_bundle[np.isin(of_bundle, numbers)]}
    for one in sorted(found, key=lambda one: not one.answers):
        if one.record not in counted:
            counted.add(one.record)
            counts.update(one.counts)
        elif one.answers:
            counts["cached"] += 1
    return counts


def work_of(result: Any) -> dict[str, dict[str, int]]:
    """The counts of a finished pipeline (its PipelineResult), by step and by outcome or kind of token."""
    counters = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))["counters"]
    work: dict[str, dict[str, int]] = defaultdict(dict)
    for counter in sorted(counters, key=lambda counter: str(counter.key.metric.name)):
        step, _, name = counter.key.metric.name.partition(".")
        work[step][name] = work[step].get(name, 0) + int(counter.result)
    return dict(work)
