"""``hardquery finish``: publish what a job made that was left to run, or was launched from a template."""

from __future__ import annotations

import argparse
from typing import Any

from rich.console import Console

from runners.cli.errors import (
    DEFERRED,
    INTERRUPTED,
    LOST,
    PROBLEMS,
    BrokenOff,
    UsageError,
    connect_stores,
    sentence,
)


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "publish the output of a job that went on without the run that submitted it"
    parser = commands.add_parser(
        "finish",
        help=text,
        description=f"{sentence(text)} Waits for the job, does what the run would have done at its end, and may be "
        "called again whatever stopped it. Exit codes are those of run.",
        allow_abbrev=False,
    )
    parser.add_argument("output", metavar="OUTPUT", help="the output of the run")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace, _: list[str]) -> int:
    """Wait, finish, publish."""
    from pipeline.outputs.errors import NotPublished, OutputError, StepLost
    from runners import local
    from runners.console.kept import Looking, StatusFile
    from runners.console.progress import LiveTable, PlainLines, watch
    from runners.console.summary import print_summary
    from runners.remote.submit import JobEnded, Left, finish_output
    from transforms import progress

    output = arguments.output.rstrip("/")
    connect_stores(output)
    console = Console(stderr=True, highlight=False, soft_wrap=True, markup=False)
    progress.reset()
    local.quieten()
    try:
        shown = LiveTable(console) if console.is_terminal else PlainLines(console.print)
        views = [shown, StatusFile(output)]
        finished = finish_output(output, console.print, lambda over: watch(over, views, Looking()))
    except OutputError as error:
        raise UsageError(str(error)) from error
    except JobEnded as error:
        raise BrokenOff(str(error)) from error
    except Left as left:
        console.print(str(left))
        return INTERRUPTED if left.interrupted else DEFERRED
    except NotPublished as error:
        console.print(f"hardquery: not published: {error}", style="red")
        return LOST if isinstance(error, StepLost) else PROBLEMS
    if finished is None:
        console.print(f"{output} is published already")
        return 0
    manifest, lines = finished
    print_summary(manifest, lines, output, "")
    return DEFERRED if any(line.deferred for line in lines) else 0
