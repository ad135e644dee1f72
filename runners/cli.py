"""The command line: ``hardquery run``, and commands that read what a run wrote."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from rich.console import Console

from runners.cache import add_commands as add_cache_commands
from runners.options import add_budget, add_options
from schemas.visible import UNREADABLE, visible

USAGE_ERROR, RUN_ERROR, PROBLEMS, DEFERRED = 2, 1, 3, 4

_EPILOG = """\
examples:
  hardquery run demo --input samples/videos --output out/demo
  hardquery run rankvideo --input 'gs://bucket/videos/*.mp4' --output gs://bucket/set --set judge.teacher.model=my-model
  hardquery plan demo --input samples/videos --output out/demo
  hardquery verify out/demo
  hardquery explain out/demo q-3f2a9c0d11e4b7a2
  hardquery diff out/demo out/other
  hardquery export rankvideo out/demo
  hardquery cache stats --output out/demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done, 1 it broke, 2 wrong usage, 3 verify found problems (or diff --exit-code a difference), 4 the run is sound
    but its budget left work for later.
    """
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command not in ("run", "plan"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    warnings.simplefilter("ignore")
    logging.getLogger().addFilter(_is_ours)
    try:
        return int(arguments.act(arguments, rest))
    except UsageError as error:
        print(f"hardquery: {visible(str(error), UNREADABLE)}", file=sys.stderr)  # it may quote a file
        return USAGE_ERROR
    except KeyboardInterrupt:
        continued = "; the same command continues" if arguments.command == "run" else ""
        print(f"hardquery: interrupted{continued}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output left, as `head` does.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return RUN_ERROR if arguments.command == "run" else 0  # a run that nobody watches any more was cut short


def entry() -> None:
    """The console script: ``main``, then an end that waits for nobody.

    Native threads of the libraries underneath (Arrow, gRPC) now and then abort the process while the interpreter is
    torn down, after all work is done; a finished command must not end with their exit code.
    """
    code = main()
    sandbox = sys.modules.get("transforms.sandbox")
    if sandbox is not None:
        sandbox.shut_down()  # what the interpreter would have called at exit
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class UsageError(ValueError):
    """What was asked for cannot be done; one line that names the fix."""


def _is_ours(record: logging.LogRecord) -> bool:
    # Beam logs what its S3 client also raises, with a trace.
    return record.module != "s3io" and "apitools not found" not in record.getMessage()


def _connect(*places: str | None) -> None:
    """Make object stores reachable for a command that takes no Beam options: the environment says how."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from transforms.files import StoreError, connect

    try:
        connect(PipelineOptions([]), *places)
    except StoreError as error:
        raise UsageError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="hardquery",
        description="Give it a folder of videos; get back training data that makes a video reranker reason.",
        epilog=_EPILOG,
        formatter_class=raw,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hardquery {version('hardquery')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

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
    plan.set_defaults(act=_plan)

    recipes = commands.add_parser("recipes", help="list the recipes, or print one")
    recipes.add_argument("recipe", nargs="?", metavar="RECIPE")
    recipes.set_defaults(act=_recipes)

    verify = commands.add_parser("verify", help="check an output against its manifest, schemas, references and ledger")
    verify.add_argument("output", metavar="OUT")
    verify.set_defaults(act=_verify)

    explain = commands.add_parser("explain", help="everything known of one query, video or pair")
    explain.add_argument("output", metavar="OUT")
    explain.add_argument("id", metavar="ID", help="a query id, a video id, or QUERY_ID:VIDEO_ID")
    explain.set_defaults(act=_explain)

    diff = commands.add_parser("diff", help="what changed between two outputs, row by row, and why")
    diff.add_argument("a", metavar="OUT_A")
    diff.add_argument("b", metavar="OUT_B")
    diff.add_argument("--rows", type=int, default=10, metavar="N", help="examples shown a table (default: %(default)s)")
    diff.add_argument("--json", action="store_true", help="print every row that differs, and all counts, as JSON Lines")
    diff.add_argument("--exit-code", action="store_true", help=f"end with exit code {PROBLEMS} where any row differs")
    diff.set_defaults(act=_diff)

    export = commands.add_parser("export", help="write the training set in another format")
    export.add_argument("format", metavar="FORMAT", help="rankvideo")
    export.add_argument("output", metavar="OUT")
    export.add_argument("--to", metavar="DIR", help="destination (default: OUT/exports/FORMAT)")
    export.add_argument("--video-dir", metavar="DIR", help="name videos as DIR/<file name> instead of by their address")
    export.set_defaults(act=_export)

    cache = commands.add_parser("cache", help="what a cache holds, whether it is sound, and what of it can go")
    add_cache_commands(cache)
    cache.set_defaults(act=_cache)
    return parser


def _run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    from pipeline.outputs.errors import OutputError
    from pipeline.run import execute
    from runners import local
    from runners.job import prepare
    from runners.progress import watch
    from runners.summary import print_summary
    from transforms import progress

    try:
        job, options, ignored = prepare(arguments, beam_flags)
    except (ValueError, OSError) as error:  # every error of these calls is a clear one-line subclass of the two
        raise UsageError(str(error)) from error
    console = Console(stderr=True)
    beside = f" ({ignored} other files ignored)" if ignored else ""
    said = f"{job.recipe.name}: {len(job.listing.entries)} videos{beside} -> {job.output}"
    console.print(said, highlight=False, soft_wrap=True, markup=False)
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
    return DEFERRED if any(line.deferred for line in lines) else 0


def _say_stopped(error: BaseException, output: str, console: Console) -> None:
    from pipeline.outputs.errors import with_fix
    from pipeline.outputs.staging import is_half_published
    from runners.local import cause

    stopped = visible(f"hardquery: the run stopped: {with_fix(cause(error))}", UNREADABLE)
    console.print(stopped, style="red", highlight=False, soft_wrap=True, markup=False)
    with suppress(Exception):  # a file system that is out of reach has just been named
        state = "is half published" if is_half_published(output) else "is as it was before the run"
        console.print(f"The output folder {state}; the same command continues.", soft_wrap=True)
    if not os.environ.get("HARDQUERY_TRACEBACK"):
        console.print("Set HARDQUERY_TRACEBACK=1 to see where.", style="dim")


def _plan(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    from runners.plan import act

    try:
        return 0 if act(arguments, beam_flags) else RUN_ERROR
    except (ValueError, OSError) as error:
        raise UsageError(str(error)) from error


def _recipes(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.config import RecipeError, load_recipe, recipe_names, recipe_text

    try:
        if arguments.recipe:
            print(recipe_text(arguments.recipe), end="")
            return 0
        for name in recipe_names():
            print(f"{name:<12} {load_recipe(name).description}")
    except RecipeError as error:
        raise UsageError(str(error)) from error
    print("\n`hardquery recipes NAME` prints one; copy it to a file and change it, or use --set.")
    return 0


def _verify(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.manifest import NotAnOutput
    from pipeline.outputs.verify import verdict, verify

    _connect(arguments.output)
    try:
        problems = verify(arguments.output)
    except NotAnOutput as error:
        raise UsageError(str(error)) from error
    print(verdict(arguments.output, problems))
    return PROBLEMS if problems else 0


def _explain(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.explain import UnknownId, explain
    from pipeline.outputs.manifest import NotAnOutput

    _connect(arguments.output)
    try:
        print(explain(arguments.output, arguments.id))
    except (NotAnOutput, UnknownId) as error:
        raise UsageError(str(error)) from error
    return 0


def _diff(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.diff import diff
    from pipeline.outputs.diff_text import Examples, diff_text, row_json, summary_json
    from pipeline.outputs.manifest import NotAnOutput

    if arguments.rows < 0:
        raise UsageError(f"--rows must not be negative, got {arguments.rows}")
    _connect(arguments.a, arguments.b)
    examples = Examples(arguments.rows)
    try:
        if arguments.json:
            found = diff(arguments.a, arguments.b, lambda *_: True, lambda row: print(row_json(row)))
            print(*summary_json(found), sep="\n")
        else:
            found = diff(arguments.a, arguments.b, examples.wanted, examples.add)
            print(diff_text(found, examples), end="")
    except NotAnOutput as error:
        raise UsageError(str(error)) from error
    return PROBLEMS if arguments.exit_code and found.rows_differ else 0


def _export(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.export import EXPORTS
    from pipeline.outputs.manifest import NotAnOutput
    from transforms.engines import did_you_mean
    from transforms.files import join

    if arguments.format not in EXPORTS:
        raise UsageError(f"format {arguments.format!r} is not known{did_you_mean(arguments.format, list(EXPORTS))}")
    _connect(arguments.output, arguments.to)
    destination = arguments.to or join(arguments.output, "exports", arguments.format)
    try:
        for path in EXPORTS[arguments.format](arguments.output, destination, arguments.video_dir):
            print(path)
    except NotAnOutput as error:
        raise UsageError(str(error)) from error
    return 0


def _cache(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.errors import with_fix
    from runners import cache
    from transforms.cache_lock import CacheInUse

    root = cache.root_of(arguments)
    _connect(root)
    try:
        return 0 if cache.act(arguments) else PROBLEMS
    except (ValueError, CacheInUse) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        print(f"hardquery: the cache {root} cannot be read or written to: {with_fix(str(error))}", file=sys.stderr)
        return RUN_ERROR
