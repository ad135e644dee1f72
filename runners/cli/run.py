"""``hardquery run``, and what is asked before it: ``hardquery plan`` and ``hardquery recipes``."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from typing import Any

from rich.console import Console

from runners.cli.errors import DEFERRED, RUN_ERROR, UsageError, one_line
from runners.options import add_batch, add_budget, add_options
from schemas.visible import UNREADABLE, visible


def add_commands(commands: Any) -> None:
    """The commands, with their options."""
    raw = argparse.RawDescriptionHelpFormatter
    run = commands.add_parser(
        "run",
        help="videos in, training shards out",
        description="Extract evidence, write queries, mine and judge candidates, and write Parquet shards.",
        epilog="Every other option goes to Beam, such as --runner=DataflowRunner --project=… --temp_location=gs://…",
        formatter_class=raw,
        allow_abbrev=False,
    )
    add_options(run)
    add_budget(run)
    add_batch(run)
    run.set_defaults(act=_run)

    text = "what a run would do and cost, and why it is not cached; nothing is computed or paid for"
    plan = commands.add_parser(
        "plan",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Numbers that hang on work not done yet are estimates: about.",
        epilog="Every other option goes to Beam, as with run.",
        allow_abbrev=False,
    )
    add_options(plan)
    add_budget(plan)
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(act=_plan, batch=None)

    recipes = commands.add_parser("recipes", help="list the recipes, or print one")
    recipes.add_argument("recipe", nargs="?", metavar="RECIPE")
    recipes.set_defaults(act=_recipes)


def _run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    from pipeline.outputs.errors import OutputError
    from pipeline.run import execute
    from runners import local
    from runners.cli.batch import say_what_next
    from runners.job import prepare
    from runners.progress import watch
    from runners.summary import print_summary
    from transforms import progress

    with one_line(ValueError, OSError):  # every error of this call is a clear one-line subclass of the two
        job, options, ignored = prepare(arguments, beam_flags)
    console = Console(stderr=True)
    beside = f" ({ignored})" if ignored else ""
    said = f"{job.recipe.name}: {len(job.listing.entries)} videos{beside} -> {job.output}"
    console.print(said, highlight=False, soft_wrap=True, markup=False)
    for role, server in job.servers.items():
        if server.lacks:
            console.print(f"{role}: {server.lacks}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    progress.reset()
    local.quieten()
    try:
        manifest, lines, damage = execute(
            job,
            local.make_pipeline(options),
            runner=local.runner_name(options),
            run=lambda pipeline: local.run(pipeline, lambda over: watch(over, console)),
        )
    except OutputError as error:
        raise UsageError(str(error)) from error
    except Exception as error:  # whatever stopped the run is said in one line; the variable below shows where
        _say_stopped(error, job.output, console)
        if os.environ.get("HARDQUERY_TRACEBACK"):
            raise
        return RUN_ERROR
    for found in damage:
        console.print(f"journal: {found}; what it held was done again", style="yellow", highlight=False, soft_wrap=True)
    print_summary(manifest, lines, job.output)
    if arguments.batch:
        say_what_next(arguments.batch, manifest.work, job.output, arguments.cache)
    return DEFERRED if any(line.deferred for line in lines) else 0


def _say_stopped(error: BaseException, output: str, console: Console) -> None:
    from pipeline.outputs.errors import with_fix
    from pipeline.outputs.staging import is_half_published
    from runners.cause import cause

    stopped = visible(f"hardquery: the run stopped: {with_fix(cause(error))}", UNREADABLE)
    console.print(stopped, style="red", highlight=False, soft_wrap=True, markup=False)
    with suppress(Exception):  # a file system that is out of reach has just been named
        state = "is half published" if is_half_published(output) else "is as it was before the run"
        console.print(f"The output folder {state}; the same command continues.", soft_wrap=True)
    if not os.environ.get("HARDQUERY_TRACEBACK"):
        console.print("Set HARDQUERY_TRACEBACK=1 to see where.", style="dim")


def _plan(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    from runners.cli.plan import act

    with one_line(ValueError, OSError):
        return 0 if act(arguments, beam_flags) else RUN_ERROR


def _recipes(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.config import RecipeError, load_recipe, recipe_names, recipe_text

    with one_line(RecipeError):
        if arguments.recipe:
            print(recipe_text(arguments.recipe), end="")
            return 0
        for name in recipe_names():
            print(f"{name:<12} {load_recipe(name).description}")
    print("\n`hardquery recipes NAME` prints one; copy it to a file and change it, or use --set.")
    return 0
