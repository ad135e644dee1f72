"""What a panel of further judges would be asked: what can be looked up, and what the first judge will leave to it."""

from __future__ import annotations

from pipeline.planning.forecast import SPREAD, Counts, calls_of_pair
from pipeline.planning.rate import Rate
from pipeline.planning.seen import Seen
from pipeline.planning.step import StepPlan, reasons_of, step_plan
from pipeline.run import Job

DOUBTFUL = 0.4  # of judged pairs, those that go to the panel: as good a guess as another
_ENOUGH = 100  # judged pairs, from which on that share is taken from them
_SAMPLE = 1000  # records, to learn from what a call takes


def plan_panel(job: Job, seen: Seen, judge: StepPlan) -> StepPlan:
    """The plan of all further judges together, given that of the first one.

    Of several engines the first stands for all where it comes to tokens and seconds. While few pairs were judged
    nothing says how many of them are doubtful: the panel may be asked about none, or about all.
    """
    ladders = [engine.ladder for engine in job.engines.panel.values()]
    follow, off = seen.follow["panel"], seen.off.get("panel", 0)
    reasons: dict[str, float] = {**seen.reasons["panel"], "depends on the replies before": follow}
    at_hand = seen.due("panel") + follow
    bounds = (at_hand - off, at_hand + off)
    if judge.to_run:
        calls_a_pair = sum(map(calls_of_pair, ladders)) / calls_of_pair(job.engines.judge.ladder)
        least, likely, most = (share * calls_a_pair for share in _shares(job, seen.counts))
        reasons["depends on judge"] = likely * judge.to_run
        bounds = (bounds[0] + least * judge.least, bounds[1] + most * judge.most)
    cost = job.recipe.costs.panel
    stamp = next(iter(job.engines.panel.values())).stamp()
    return step_plan(
        "panel",
        seen.held("panel") + seen.missed["panel"] - seen.due("panel"),
        judge.exact and not (judge.to_run or follow),
        reasons_of(reasons),
        Rate.of(job.journal.some("panel", _SAMPLE), stamp, cost),
        cost,
        paid=True,
        bounds=bounds,
    )


def _shares(job: Job, counts: Counts) -> tuple[float, float, float]:
    """Of pairs that the first judge is yet to judge, the share that goes to the panel: the least, likely, the most."""
    if job.recipe.judge.panel_rules.margin_below is None:
        return 1.0, 1.0, 1.0
    judged = counts.get("judge/judge", {}).get("out", 0)
    if judged < _ENOUGH:
        return 0.0, DOUBTFUL, 1.0
    share = max(counts.get(f"judge/{name}", {}).get("in", 0) for name in job.engines.panel) / judged
    return share / SPREAD, share, min(1.0, SPREAD * share)
