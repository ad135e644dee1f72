"""``hardquery plan``: what a run would do and cost, as a table or as JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from runners.request import Request

if TYPE_CHECKING:  # heavy, and --help is quick
    from rich.console import Console
    from rich.table import Table

    from pipeline.config import Recipe
    from pipeline.planning.plan import Plan
    from pipeline.planning.step import StepPlan


def act(request: Request, as_json: bool) -> bool:
    """Make the plan and print it; False where something stopped it, which was said.

    Raises:
        ValueError, OSError: what was asked for cannot be planned; one line that names the fix.
    """
    import msgspec
    from rich.console import Console

    from pipeline.outputs.errors import NotAnOutput
    from pipeline.planning.plan import CannotLook
    from runners.cause import cause
    from runners.job import prepare
    from runners.run import left_alone
    from runners.run import plan as make_plan

    prepared = prepare(request, look_only=True)
    said = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    for note in prepared.notes:
        said.print(note)
    if not as_json and (finished := left_alone(prepared)) is not None:
        said.print(f"nothing has changed since {finished.manifest.created}: a run does nothing (--force plans it anew)")
        return True
    try:
        with said.status("Looking up what is cached"):
            plan = make_plan(prepared, said.print)
    except (CannotLook, NotAnOutput):
        raise
    except Exception as error:  # whatever stopped it is said in one line; the variable below shows where
        said.print(f"hardquery: the plan stopped: {cause(error)}", style="red")
        if os.environ.get("HARDQUERY_TRACEBACK"):
            raise
        return False
    for found in plan.damage:
        said.print(f"journal: {found}; what it held will be done again", style="yellow")
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(plan), indent=1).decode())
    else:
        console = Console(highlight=False, markup=False, soft_wrap=True)
        console.width = console.width if console.is_terminal else 160  # whoever reads a pipe reads lines
        _print(plan, prepared.job.recipe, prepared.job.cache.root, console)
        _print_bounds(plan, request, console)
    return True


def _print(plan: Plan, recipe: Recipe, cache: str, console: Console) -> None:
    length = f"{plan.media_s / 3600:,.2f} hours of video"
    if plan.unknown_length:
        length += f" and {plan.unknown_length:,} of unknown length"
    names = f": {', '.join(plan.unreadable_files)}" + (", …" if plan.unreadable > len(plan.unreadable_files) else "")
    which = names if plan.unreadable_files else ""
    bad = f" ({plan.unreadable:,} cannot be read or decoded{which})" if plan.unreadable else ""
    console.print(f"{recipe.name}: {plan.videos:,} videos{bad}, {length}; cache {cache}")
    if plan.looked_at < plan.videos:
        console.print(
            f"looked at {plan.looked_at:,} of {plan.videos:,} videos: all numbers are estimates (--whole looks at all)"
        )
    console.print(plan_table(plan, console.width))
    print_reasons(plan, console)
    if not plan.at_hand and any(step.least < step.most for step in plan.steps):
        console.print(
            "No video of this input is done yet, and what others had is a wide guess: the same command as `hardquery "
            "run … --limit 12` first has the next plan go by yours"
        )
    if not any(step.to_run for step in plan.steps):
        what = "Everything" if plan.looked_at == plan.videos else "All that was looked at"
        console.print(f"{what} is cached: a run writes the output and pays for nothing.")
    if plan.untold:
        console.print(
            f"{plan.untold:,} cached replies of the judge are without log-probabilities: a run asks for them again if "
            "its server is found to report them"
        )
    if recipe.curate.follows_margins:
        console.print(
            "thresholds of curate are fitted to the judge's margins: what they come to, and how many groups they "
            "make, is not known before these"
        )
    paid = [step for step in plan.steps if step.input_tokens or step.output_tokens]
    if any(step.requests is not None for step in plan.steps):
        console.print("Each result of a paid step is one call; requests are calls and, at the rate so far, retries.")
    assumed = [step.step for step in paid if not step.measured]
    if assumed:
        console.print(f"tokens of {', '.join(assumed)}: averages of the recipe's section costs; none were measured yet")
    costs = recipe.costs.by_step()
    free = [step.step for step in paid if not (costs[step.step].input_price or costs[step.step].output_price)]
    if free:
        setting = f"--set costs.{free[0]}.input_price=… --set costs.{free[0]}.output_price=…"
        console.print(f"no prices for {', '.join(free)}: {setting} (dollars a million tokens) sets them")


def _print_bounds(plan: Plan, request: Request, console: Console) -> None:
    """Say which bounds of a budget would stop the run."""
    from transforms.journal.budget import PAID_STEPS

    paid = [step for step in plan.steps if step.step in PAID_STEPS]
    bounds = (
        ("--max-calls", request.max_calls, sum(step.calls for step in plan.steps)),
        ("--max-tokens", request.max_tokens, sum(step.input_tokens + step.output_tokens for step in paid)),
        ("--max-cost", request.max_cost, round(sum(step.dollars for step in paid), 2)),
    )
    for option, bound, due in bounds:
        if bound is not None and due > bound:
            console.print(f"{option} {bound:,} would leave work for later: all of it takes about {due:,}")


def plan_table(plan: Plan, width: int) -> Table:
    """A row a step, and one for all; tokens and dollars only where there are any, requests where some were counted."""
    from rich.table import Table

    billed = any(step.input_tokens or step.output_tokens for step in plan.steps)
    cells = {name: cell for name, cell in _COLUMNS.items() if billed or name not in _BILLED}
    columns = {name: cell for name, cell in cells.items() if name not in _MEASURED or cell(plan.steps) != "-"}
    if width < _WIDE:
        columns = {name: cell for name, cell in columns.items() if name not in _MEASURED}
    table = Table(box=None, pad_edge=False, padding=(0, 1 if width < _WIDE else 2, 0, 0))
    table.add_column("step")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for step in plan.steps:
        table.add_row(step.step, *(cell([step]) for cell in columns.values()))
    table.add_row("all", *(cell(plan.steps) for cell in columns.values()))
    return table


def print_reasons(plan: Plan, console: Console) -> None:
    """Below the table, why what is to run is not cached: a line a reason, steps of the same reason together."""
    import textwrap

    steps: dict[str, list[str]] = {}
    for step in plan.steps:
        several = len(step.reasons) > 1
        for reason in step.reasons:
            steps.setdefault(reason.why, []).append(f"{step.step} ({reason.count:,})" if several else step.step)
    for why, named in steps.items():
        for line in textwrap.wrap(f"{', '.join(named)}: {why}", console.width, subsequent_indent="  "):
            console.print(line)


def _to_run(steps: Sequence[StepPlan]) -> str:
    least, most = sum(step.least for step in steps), sum(step.most for step in steps)
    if least < most:
        return f"{least:,}-{most:,}"
    return f"{most:,}" if all(step.exact for step in steps) else f"about {most:,}"


def _requests(steps: Sequence[StepPlan]) -> str:
    known = [step.requests for step in steps if step.requests is not None]
    return "-" if not known else f"about {sum(known):,}" if any(known) else "0"


def _cached_share(steps: Sequence[StepPlan]) -> str:
    known = [step for step in steps if step.cached_tokens is not None]
    tokens = sum(step.input_tokens for step in known)
    return f"{sum(step.cached_tokens or 0 for step in known) / tokens:.0%}" if tokens else "-"


def _hours(steps: Sequence[StepPlan]) -> str:
    due = [step.seconds for step in steps if step.to_run]
    known = [seconds for seconds in due if seconds is not None]
    if due and not known:
        return "?"
    hours = sum(known) / 3600
    shown = f"{hours:,.2f}" if hours >= 0.01 or not hours else "< 0.01"
    return shown + (" + ?" if len(known) < len(due) else "")


# What a column shows of some steps.
_COLUMNS: Mapping[str, Callable[[Sequence[StepPlan]], str]] = MappingProxyType(
    {
        "cached": lambda steps: f"{sum(step.cached for step in steps):,}",
        "to run": _to_run,
        "requests": _requests,
        "tokens in": lambda steps: f"{sum(step.input_tokens for step in steps):,}",
        "of them cached": _cached_share,
        "tokens out": lambda steps: f"{sum(step.output_tokens for step in steps):,}",
        "dollars": lambda steps: f"{sum(step.dollars for step in steps):,.2f}",
        "hours of work": _hours,
    }
)
_BILLED = ("tokens in", "tokens out", "dollars")
_WIDE = 100  # columns of a terminal that has room for all
_MEASURED = ("requests", "of them cached")
