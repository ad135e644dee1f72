"""How much work a run did and how much it found done: counted by every worker, added up by the runner."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter

from schemas.account import Usage
from transforms.progress import advance

Outcome = Literal["cached", "run", "failed", "deferred"]
_NAMESPACE = "hardquery"
_aside: ContextVar[list[tuple[str, str, int]] | None] = ContextVar("aside", default=None)


def count(step: str, outcome: Outcome, usage: Usage | None = None) -> None:
    """Take down what became of one result: found, made, not to be had, or left for later; and what it was billed."""
    add(step, outcome, 1)
    if outcome == "cached":
        advance(step, "cached")
    if usage is not None:
        add(step, "input_tokens", usage.input_tokens)
        add(step, "output_tokens", usage.output_tokens)


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
