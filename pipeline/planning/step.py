"""One step of a plan: what is cached, what is to be made and why, and what that takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.planning.rate import Rate
from transforms.journal.budget import Cost


@dataclass(frozen=True, slots=True)
class Reason:
    """Why so many results are not cached."""

    why: str
    count: int


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step: results that are cached, and results to be made, which are an estimate unless ``exact``.

    Each result of a paid step takes one of the ``calls`` that count against a budget; an embedder of this process takes
    none. ``input_tokens``, ``output_tokens`` and ``dollars`` are those of the
    results to be made, at the tokens of an average call: ``measured``, or else as the recipe has them. None where they
    were not measured of this engine and model: ``seconds`` of work, added up over all workers, ``cached_tokens``, the
    input tokens that the server has cached, and ``requests``, which are the calls and what has to be sent again.

    ``least`` and ``most`` bound ``to_run`` where it hangs on replies that are not there yet: ``most`` is at most twice
    ``least``, but for a panel's and of a sample, and both are ``to_run`` where nothing does. A cold plan's are wrong
    where a corpus is unlike any that was seen; a run of a few videos (``limit``) puts what was measured in the place of
    what was supposed.
    """

    step: str
    cached: int
    to_run: int
    exact: bool
    reasons: tuple[Reason, ...]
    input_tokens: int
    output_tokens: int
    measured: bool
    dollars: float
    seconds: float | None
    cached_tokens: int | None = None
    requests: int | None = None
    calls: int = 0
    least: int = 0
    most: int = 0


def reasons_of(counted: Mapping[str, float]) -> tuple[Reason, ...]:
    """Reasons by how many results are not cached for them, the most frequent first."""
    ordered = sorted(counted.items(), key=lambda item: -item[1])
    return tuple(Reason(why, count) for why, number in ordered if (count := round(number)))


def step_plan(
    step: str,
    cached: float,
    exact: bool,
    reasons: tuple[Reason, ...],
    rate: Rate,
    cost: Cost,
    paid: bool,
    bounds: tuple[float, float] | None = None,
) -> StepPlan:
    """The plan of a step, of as many results to run as there are reasons for; ``rate`` is what each takes."""
    to_run = sum(reason.count for reason in reasons)
    calls = to_run if paid else 0
    tokens_in, tokens_out, cached_tokens = calls * rate.input_tokens, calls * rate.output_tokens, 0.0
    if rate.cached_share is not None:
        cached_tokens = tokens_in * rate.cached_share
    return StepPlan(
        step=step,
        cached=round(cached),
        to_run=to_run,
        exact=exact,
        reasons=reasons,
        input_tokens=round(tokens_in),
        output_tokens=round(tokens_out),
        measured=rate.measured,
        dollars=round(cost.dollars(tokens_in, tokens_out, cached_tokens), 6),
        seconds=None if rate.seconds is None else round(to_run * rate.seconds, 3),
        cached_tokens=None if rate.cached_share is None else round(cached_tokens),
        requests=None if rate.requests is None else round(calls * rate.requests),
        calls=calls,
        least=min(to_run, max(0, math.floor(bounds[0]))) if bounds else to_run,
        most=max(to_run, math.ceil(bounds[1])) if bounds else to_run,
    )
