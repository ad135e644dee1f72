"""How far a job is that runs in other processes, from the counts that its runner keeps."""

from __future__ import annotations

import time
from typing import Any

from apache_beam.metrics.metric import MetricsFilter

from transforms import progress
from transforms.progress import NAMESPACE, StepCount


def counts_of(result: Any) -> dict[str, StepCount]:
    """The counts of the steps that have begun; those of this process, where workers are threads of it.

    What a runner counts is of attempts: one that came to nothing may be in it. The ledger is not made of it.
    """
    here = dict(progress.snapshot())
    if here or not hasattr(result, "metrics"):
        return here
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
        count = counts.setdefault(step, StepCount(last_s=now))
        if event == "in":
            count.given += amount
        elif event == "done":
            count.done += amount
    return counts
