"""How far a job is that runs in other processes, from the counts that its runner keeps."""

from __future__ import annotations

import threading
import time
from typing import Any

from apache_beam.metrics.metric import MetricsFilter

from transforms import progress
from transforms.progress import NAMESPACE, StepCount

PERIOD_S = 10.0


def follow(result: Any, over: threading.Event) -> None:
    """Until ``over`` is set, keep the counts of this process as they are elsewhere, for whoever shows them."""
    if not hasattr(result, "metrics"):
        return
    while not over.wait(PERIOD_S):
        progress.show(counts_of(result))


def counts_of(result: Any) -> dict[str, StepCount]:
    """The counts of the steps that have begun.

    What a runner counts is of attempts: one that came to nothing may be in it. The ledger is not made of it.
    """
    result._metrics = None  # Beam asks a job server only once
    try:
        counters = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["counters"]
    except Exception:  # noqa: BLE001 - each runner has its own errors, and progress is no reason to end
        return {}
    counts: dict[str, StepCount] = {}
    now = time.monotonic()
    for counter in counters:
        step, _, event = counter.key.metric.name.partition(".")
        amount = int(counter.committed if counter.committed is not None else counter.attempted or 0)
        count = counts.setdefault(step, StepCount(first_s=now, last_s=now))
        if event == "in":
            count.given += amount
        elif event == "done":
            count.done += amount
    return counts
