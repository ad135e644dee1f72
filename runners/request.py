"""What a run or a plan is asked to do, as plain values: the command line and Python both make such a request."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

RetryFailures = Literal["transient", "all", "none"]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class Request:
    """A run, or the plan of one; the fields are the options of ``hardquery run``, whose help says what each means.

    ``settings`` are ``key=value`` settings over the recipe; ``workers`` are videos worked on at a time, None for one a
    core. ``beam_flags`` go to Beam. ``whole`` and ``like`` are options of a plan.
    """

    recipe: str
    input: str
    output: str
    settings: tuple[str, ...] = ()
    limit: int | None = None
    workers: int | None = None
    cache: str | None = None
    queries: str | None = None
    qrels: str | None = None
    labels: str | None = None
    retry_failures: RetryFailures = "transient"
    max_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    batch: str | None = None
    force: bool = False
    whole: bool = False
    like: str | None = None
    beam_flags: tuple[str, ...] = ()
