"""What a panel of further judges would be asked: what can be looked up, and what the first judge will leave to it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from pipeline.planning.changes import NotHeld
from pipeline.planning.forecast import SPREAD, Counts, calls_behind, calls_of_pair
from pipeline.planning.rate import Rate
from pipeline.planning.step import Reason, StepPlan, step_plan
from pipeline.run import Job
from transforms.protocols.teacher import Ladder

DOUBTFUL = 0.4  # of judged pairs, those that go to the panel: as good a guess as another
_ENOUGH = 100  # judged pairs, from which on that share is taken from them
_SAMPLE = 1000  # records, to learn from what a call takes


def plan_panel(job: Job, counts: Counts, missed: Sequence[NotHeld], judge: StepPlan) -> StepPlan:
    """The plan of all further judges together, given that of the first one.

    Of several engines the first stands for all where it comes to tokens and seconds. While few pairs were judged
    nothing says how many of them are doubtful: the panel may be asked about none, or about all.
    """
    panel = {name: engine.ladder for name, engine in job.engines.panel.items()}
    missing = {miss.digest: miss for miss in missed}.values()
    cached = counts.get("panel", {}).get("cached", 0)
    follow = _calls_behind_panel(panel, missing)
    reasons = Counter(miss.why for miss in missing)
    if follow:
        reasons["depends on the replies before"] += follow
    bounds = None
    if judge.to_run:
        calls_a_pair = sum(map(calls_of_pair, panel.values())) / calls_of_pair(job.engines.judge.ladder)
        least, likely, most = (share * calls_a_pair for share in _shares(job, counts))
        reasons["depends on judge"] += round(likely * judge.to_run)
        at_hand = len(missing) + follow
        bounds = (at_hand + math.floor(least * judge.least), at_hand + math.ceil(most * judge.most))
    cost = job.recipe.costs.panel
    stamp = next(iter(job.engines.panel.values())).stamp()
    return step_plan(
        "panel",
        cached + len(missed) - len(missing),
        not (judge.to_run or follow),
        tuple(Reason(text, n) for text, n in reasons.most_common() if n),
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


def _calls_behind_panel(panel: Mapping[str, Ladder], missing: Collection[NotHeld]) -> int:
    """As ``calls_behind``; a question of the panel has a subject that begins with the judge's name."""
    asked: dict[str, list[NotHeld]] = {name: [] for name in panel}
    for one in missing:
        asked[one.subject.partition(" ")[0]].append(one)
    return sum(calls_behind(ladder, asked[name], None) for name, ladder in panel.items())
