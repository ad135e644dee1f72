"""``hardquery run``, and what is asked before it: ``hardquery plan``."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console

from runners.beam_flags import KNOWN
from runners.cli.errors import DEFERRED, INTERRUPTED, LOST, PROBLEMS, RUN_ERROR, USAGE_ERROR, UsageError, one_line
from runners.cli.parser import Parser
from runners.cli.runs.options import add_batch, add_budget, add_input, add_options, request_of
from runners.request import Request
from schemas.visible import UNREADABLE, visible

if TYPE_CHECKING:
    from pipeline.outputs.errors import NotPublished
    from runners.console.progress import View


_EPILOG = f"""\
Options of Beam that say where a run happens may stand among these, such as --runner=DataflowRunner --project=…
--region=… --temp_location=gs://…; any other goes after --.

The judge sees what judge.modalities names and nothing else: in rankvideo captions alone, as in the paper, though
queries are written from all evidence. --set 'judge.modalities=[caption,asr,ocr,metadata]' shows it all.

An output is published when it is complete and verified; until then an earlier one stays as it is. Exit codes:
  0  published
  {RUN_ERROR}  the run broke off; the same command continues
  {USAGE_ERROR}  wrong usage; nothing was done
  {PROBLEMS}  not published: what was made does not verify
  {DEFERRED}  published, but a budget or a batch left work for later; the same command continues
  {LOST}  not published: nothing came out of some step, and what was tried failed
"""


def add_commands(commands: Any) -> None:
    """The commands, with their options."""
    raw = argparse.RawDescriptionHelpFormatter
    run = commands.add_parser(
        "run",
        help="videos in, training shards out",
        description="Extract evidence, write queries, mine and judge candidates, and write Parquet shards.",
        epilog=_EPILOG,
        formatter_class=raw,
        allow_abbrev=False,
    )
    add_input(run)
    add_run_options(run)

    text = "what a run would do and cost, and why it is not cached; nothing is computed or paid for"
    plan = commands.add_parser(
        "plan",
        help=text,
        description=f"{text[0].upper()}{text[1:]}. Numbers that hang on work not done yet are estimates: about.",
        epilog="Options of Beam are given as with run.",
        allow_abbrev=False,
    )
    add_input(plan)
    add_options(plan)
    add_budget(plan)
    looks = plan.add_mutually_exclusive_group()
    looks.add_argument(
        "--whole",
        action="store_true",
        help="look at all videos: of more than 500 a sample is looked at, where a finished output tells of the others",
    )
    looks.add_argument(
        "--like",
        metavar="OUTPUT",
        help="a finished output of this input to go by (default: the one that --output would replace)",
    )
    plan.add_argument("--json", action="store_true", help="print JSON")
    plan.set_defaults(act=_plan)
    for parser in (run, plan):
        take_beam_flags(parser)


def add_run_options(run: Parser) -> None:
    """The options of a run that are not its input; as a command, ``act`` is what it does."""
    add_options(run)
    add_budget(run)
    add_batch(run)
    said = run.add_mutually_exclusive_group()
    said.add_argument("-v", "--verbose", action="store_true", help="end with the whole ledger: what every step lost")
    said.add_argument("-q", "--quiet", action="store_true", help="show no progress, only what went wrong and the end")
    run.add_argument(
        "--progress",
        choices=("auto", "plain", "json"),
        default="auto",
        help="how far it is, on standard error: a table on a terminal and lines elsewhere (auto), lines, or a JSON "
        "object a line",
    )
    run.add_argument("--log", metavar="FILE", help="add the same to a file as well: lines with their time, or JSON")
    run.add_argument("--dry-run", action="store_true", help="only plan: the same as hardquery plan")
    run.set_defaults(act=act)


def take_beam_flags(parser: Parser) -> None:
    """Let the parser know that options of Beam were taken out of what it is given."""
    parser.beside = tuple(sorted(KNOWN))
    parser.beside_hint = "; other options of Beam go after --"


def help_of_runner(beam_flags: list[str]) -> str:
    """The help of the runner that the flags name, "" where they name none that has any."""
    from runners.remote.room import value_of
    from runners.remote.rooms import room_of

    room = room_of(value_of(beam_flags, "--runner"))
    return room.help if room else ""


def act(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    """Run, or plan where it is to be dry."""
    request = request_of(arguments, beam_flags)
    if arguments.dry_run:
        return _show_plan(request, as_json=False)
    command = f"hardquery {shlex.join(arguments.typed)}"
    with ExitStack() as files:
        log = None
        if arguments.log:
            with one_line(OSError):
                log = files.enter_context(open(arguments.log, "a", encoding="utf-8"))
        shown = Shown(arguments.verbose, arguments.quiet, command, arguments.progress, log)
        return _run(request, shown)


@dataclass(frozen=True)
class Shown:
    """What a run is to say: the whole ledger at its end, nothing of how far it is; ``command`` is what was typed.

    ``progress`` is the form, and ``log`` a file that is told the same.
    """

    verbose: bool
    quiet: bool
    command: str
    progress: str = "auto"
    log: TextIO | None = None

    def say(self, text: str, console: Console, style: str = "") -> None:
        """Say a line on the terminal and to the log."""
        from runners.console.progress import JsonLines, logged

        if self.progress == "json":
            JsonLines(sys.stderr).say(text)
        else:
            console.print(visible(text, UNREADABLE), style=style, highlight=False, soft_wrap=True, markup=False)
        if self.log is not None:
            (JsonLines(self.log).say if self.progress == "json" else logged(self.log))(text)

    def views(self, console: Console) -> list[View]:
        """Where the run is shown."""
        from runners.console.progress import JsonLines, LiveTable, PlainLines, logged

        views: list[View] = []
        if self.log is not None:
            views.append(JsonLines(self.log) if self.progress == "json" else PlainLines(logged(self.log)))
        if self.quiet:
            return views
        if self.progress == "json":
            return [JsonLines(sys.stderr), *views]
        if self.progress == "auto" and console.is_terminal:
            return [LiveTable(console), *views]
        return [PlainLines(partial(console.print, highlight=False, soft_wrap=True, markup=False)), *views]


def _run(request: Request, shown: Shown) -> int:
    from pipeline.outputs.errors import NotPublished, OutputError, StepLost
    from runners.cli.runs.batch import say_what_next
    from runners.console.summary import print_summary
    from runners.job import prepare
    from runners.remote.submit import Left
    from runners.run import run

    with one_line(ValueError, OSError):  # every error of this call is a clear one-line subclass of the two
        prepared = prepare(request)
    job, console = prepared.job, Console(stderr=True)
    say = partial(shown.say, console=console)
    at_once = f"{job.workers} worker{'s' if job.workers > 1 else ''}"
    say(f"{job.recipe.name}: {len(job.listing.entries)} videos, {at_once} -> {job.output}")
    for note in prepared.notes:
        say(note, style="yellow")
    try:
        finished = run(prepared, shown.views(console), say)
    except Left as left:
        say(str(left))
        return INTERRUPTED if left.interrupted else 0
    except OutputError as error:
        raise UsageError(str(error)) from error
    except NotPublished as error:
        _say_not_published(error, job.output, say)
        return LOST if isinstance(error, StepLost) else PROBLEMS
    except Exception as error:  # whatever stopped the run is said in one line; the variable below shows where
        _say_stopped(error, job.output, say)
        if os.environ.get("HARDQUERY_TRACEBACK"):
            raise
        return RUN_ERROR
    for found in finished.damage:
        say(f"journal: {found}; what it held was done again", style="yellow")
    print_summary(finished.manifest, finished.lines, job.output, shown.command, shown.verbose)
    if request.batch:
        say_what_next(request.batch, finished.manifest.work, job.output, request.cache)
    return DEFERRED if finished.deferred else 0


def _say_not_published(error: NotPublished, output: str, say: Callable[..., None]) -> None:
    from pipeline.outputs.errors import StepLost
    from pipeline.outputs.staging import staging_of

    staging = staging_of(output)
    if isinstance(error, StepLost):
        fix = (
            f"What was tried stands in {staging}, in the tables failures and videos. When the cause is mended, the "
            "same command tries again what time may cure, and with --retry-failures all everything that failed."
        )
    else:
        fix = (
            "This is a fault of hardquery, or of queries and qrels that it was given: "
            f"`hardquery verify {staging}` says what breaks which rule. All results are in the cache, and the next run "
            "need not pay for them again."
        )
    say(f"hardquery: not published: {error}", style="red")
    say(f"The output folder is as it was before the run. {fix}")


def _say_stopped(error: BaseException, output: str, say: Callable[..., None]) -> None:
    from pipeline.outputs.errors import with_fix
    from pipeline.outputs.staging import is_half_published
    from runners.cause import cause

    say(f"hardquery: the run stopped: {with_fix(cause(error))}", style="red")
    with suppress(Exception):  # a file system that is out of reach has just been named
        state = "is half published" if is_half_published(output) else "is as it was before the run"
        say(f"The output folder {state}; the same command continues.")
    if not os.environ.get("HARDQUERY_TRACEBACK"):
        say("Set HARDQUERY_TRACEBACK=1 to see where.", style="dim")


def _plan(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    return _show_plan(request_of(arguments, beam_flags), arguments.json)


def _show_plan(request: Request, as_json: bool) -> int:
    from runners.cli.runs.plan import act as show

    with one_line(ValueError, OSError):
        return 0 if show(request, as_json) else RUN_ERROR
