"""The command line: ``hardquery run``, and commands that read what a run wrote."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import version

from rich.console import Console

_RUN_OPTIONS = ("--input", "--output", "--set", "--workers", "--cache", "--queries", "--qrels")
USAGE_ERROR, RUN_ERROR, PROBLEMS = 2, 1, 3

_EPILOG = """\
examples:
  hardquery run demo --input samples/videos --output out/demo
  hardquery run rankvideo --input 'gs://bucket/videos/*.mp4' --output gs://bucket/set --set judge.teacher.model=my-model
  hardquery verify out/demo
  hardquery explain out/demo q-3f2a9c0d11e4b7a2
  hardquery export rankvideo out/demo
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 it broke, 2 wrong usage, 3 verify found problems."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    warnings.simplefilter("ignore")
    logging.getLogger().addFilter(_is_ours)
    try:
        return int(arguments.act(arguments, rest))
    except UsageError as error:
        print(f"hardquery: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("hardquery: interrupted; the output folder has no manifest and is not finished", file=sys.stderr)
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
    return "apitools not found" not in record.getMessage()


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
    run.add_argument("recipe", metavar="RECIPE", help="a recipe's name (see hardquery recipes) or a YAML file")
    run.add_argument(
        "--input", required=True, metavar="PATH", help="a folder, a glob, or a manifest (.jsonl, .parquet)"
    )
    run.add_argument("--output", required=True, metavar="DIR", help="where the training set goes")
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one value of the recipe, such as curate.alpha1=-4; may be repeated",
    )
    run.add_argument(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, 4),
        metavar="N",
        help="videos worked on at a time on this machine (default: %(default)s)",
    )
    run.add_argument(
        "--cache", metavar="DIR", help="where frame packs are kept (default: .hardquery beside the output)"
    )
    run.add_argument("--queries", metavar="TSV", help="queries written by people, id<TAB>text, to mix in")
    run.add_argument("--qrels", metavar="TREC", help="their relevant videos, in TREC format")
    run.set_defaults(act=_run)

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

    export = commands.add_parser("export", help="write the training set in another format")
    export.add_argument("format", metavar="FORMAT", help="rankvideo")
    export.add_argument("output", metavar="OUT")
    export.add_argument("--to", metavar="DIR", help="destination (default: OUT/exports/FORMAT)")
    export.add_argument("--video-dir", metavar="DIR", help="name videos as DIR/<file name> instead of by their address")
    export.set_defaults(act=_export)
    return parser


def _run(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    from apache_beam.io.filesystems import FileSystems

    from pipeline.config import check_engines, find_engines, load_recipe
    from pipeline.human import read_human_queries
    from pipeline.run import Job, check_output, execute
    from runners import local
    from runners.progress import watch
    from runners.summary import print_summary
    from transforms import progress
    from transforms.cache import Cache
    from transforms.files import join
    from transforms.list_input import list_input

    if arguments.workers < 1:
        raise UsageError(f"--workers must be at least 1, got {arguments.workers}")
    if bool(arguments.queries) != bool(arguments.qrels):
        raise UsageError("--queries and --qrels go together")
    output = arguments.output.rstrip("/")
    if not output or arguments.cache == "":
        raise UsageError("--output and --cache must name a folder, and not the root; is a shell variable unset?")
    try:
        recipe = load_recipe(arguments.recipe, arguments.settings)
        options = local.pipeline_options(beam_flags, arguments.workers, _RUN_OPTIONS)
        engines = find_engines(recipe)
        if local.is_local(options):
            check_engines(engines)
        human = read_human_queries(arguments.queries, arguments.qrels) if arguments.queries else ()
        check_output(output)
        listing = list_input(arguments.input)
    except (ValueError, OSError) as error:  # every error of these calls is a clear one-line subclass of the two
        raise UsageError(str(error)) from error

    cache = Cache(arguments.cache or join(FileSystems.split(output)[0] or ".", ".hardquery"))
    job = Job(recipe, engines, arguments.input, listing, output, cache, arguments.workers, human)
    console = Console(stderr=True)
    beside = f" ({listing.ignored} other files ignored)" if listing.ignored else ""
    console.print(f"{recipe.name}: {len(listing.entries)} videos{beside} -> {output}", highlight=False, soft_wrap=True)
    progress.reset()
    local.quieten()
    try:
        manifest, lines = execute(
            job,
            local.make_pipeline(options),
            runner=local.runner_name(options),
            run=lambda pipeline: local.run(pipeline, lambda over: watch(over, console)),
        )
    except Exception as error:  # whatever stopped the run is said in one line; the variable below shows where
        console.print(f"hardquery: the run stopped: {local.cause(error)}", style="red", highlight=False, soft_wrap=True)
        console.print(
            "The output folder has no manifest and is not finished; the same command starts it again.", soft_wrap=True
        )
        if os.environ.get("HARDQUERY_TRACEBACK"):
            raise
        console.print("Set HARDQUERY_TRACEBACK=1 to see where.", style="dim")
        return RUN_ERROR
    print_summary(manifest, lines, output)
    return 0


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

    try:
        problems = verify(arguments.output)
    except NotAnOutput as error:
        raise UsageError(str(error)) from error
    print(verdict(arguments.output, problems))
    return PROBLEMS if problems else 0


def _explain(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.explain import UnknownId, explain
    from pipeline.outputs.manifest import NotAnOutput

    try:
        print(explain(arguments.output, arguments.id))
    except (NotAnOutput, UnknownId) as error:
        raise UsageError(str(error)) from error
    return 0


def _export(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.export import EXPORTS
    from pipeline.outputs.manifest import NotAnOutput
    from transforms.engines import did_you_mean
    from transforms.files import join

    if arguments.format not in EXPORTS:
        raise UsageError(f"format {arguments.format!r} is not known{did_you_mean(arguments.format, list(EXPORTS))}")
    destination = arguments.to or join(arguments.output, "exports", arguments.format)
    try:
        for path in EXPORTS[arguments.format](arguments.output, destination, arguments.video_dir):
            print(path)
    except NotAnOutput as error:
        raise UsageError(str(error)) from error
    return 0
