"""How much work a run did and how much it found done: counted by every worker, added up by the runner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

from schemas.usage import Usage
from transforms.progress import advance

WorkOutcome = Literal["cached", "run", "failed", "deferred"]
EARLIER = "earlier_"  # before the names of what other runs used
CACHEABLE, SILENT = "cacheable_tokens", "silent"
UNTOLD = "untold"  # replies without the log-probabilities that they were asked for, which a plan found
_NAMESPACE = "hardquery"
_aside: ContextVar[list[tuple[str, str, int]] | None] = ContextVar("aside", default=None)


def count(step: str, outcome: WorkOutcome, usage: Usage | None = None) -> None:
    """Take down what became of one result: found, made, not to be had, or left for later; and what was used for it.

    Counts are what is known of a ``Usage``, by name. Besides, ``cacheable_tokens`` are the input tokens of which the
    server told how many it had cached, and ``silent`` are replies whose server did not tell their tokens.
    """
    add(step, outcome, 1)
    if outcome == "cached":
        advance(step, "cached")
    for name, amount in counts_of(usage).items():
        add(step, name, amount)
    if outcome == "run" and usage is not None and usage.input_tokens is None:
        add(step, SILENT, 1)


def count_earlier(step: str, usage: Usage | None) -> None:
    """Take down what earlier runs used for a result that this one found."""
    for name, amount in counts_of(usage).items():
        add(step, EARLIER + name, amount)


def counts_of(usage: Usage | None) -> dict[str, int]:
    """What is known to have been used, and is not nothing, by name; see ``count``."""
    if usage is None:
        return {}
    known = {name: amount for name, amount in usage.known().items() if amount}
    if usage.cached_tokens is not None and usage.input_tokens:
        known[CACHEABLE] = usage.input_tokens
    return known


def add(step: str, name: str, amount: int) -> None:
    """Add to one count of a step, which ``work_of`` gives back."""
    if (aside := _aside.get()) is not None:
        aside.append((step, name, amount))
        return
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


def work_of(result: Any) -> dict[str, dict[str, int]]:
    """The counts of a finished pipeline (its PipelineResult), by step and by outcome or kind of token."""
    counters = result.metrics().query(MetricsFilter().with_namespace(_NAMESPACE))["counters"]
    work: dict[str, dict[str, int]] = defaultdict(dict)
    for counter in sorted(counters, key=lambda counter: str(counter.key.metric.name)):
        step, _, name = counter.key.metric.name.partition(".")
        work[step][name] = work[step].get(name, 0) + int(counter.result)
    return dict(work)
