"""The command line: what every command has in common; each has a module of its own."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from runners.beam_flags import split_flags
from runners.cli import asr_check, audit, cache, outputs
from runners.cli.errors import RUN_ERROR, USAGE_ERROR, BrokenOff, UsageError
from runners.cli.left_out import leave_out
from runners.cli.models import evaluate, matrix, rerank, retrieve, train
from runners.cli.parser import Parser
from runners.cli.runs import batch, demo, engines, finish, recipes, run, status
from runners.cli.shells import completion
from runners.quiet import hush, hush_warnings
from schemas.visible import UNREADABLE, visible
from transforms.storage.address import local_path

_COMMANDS = (
    *(demo, recipes, engines, run, status, finish),
    *(outputs, audit, asr_check, batch, cache),
    *(train, rerank, retrieve, evaluate, matrix),
)  # in the order of the help
OF_RUNS = ("apache_beam", "bm25s", "pebble", "py3langid", "snowballstemmer")  # packages that trainers do without
RUNS = ("run", "plan", "demo")  # commands that take options of Beam
# How seldom Python looks for garbage: each look at all takes long among what Beam imports, a tenth of a small run.
SELDOM = (10_000, 10, 10)

_EPILOG = """\
examples:
  hardquery demo --output out/demo
  hardquery run demo --input ~/videos --output out/mine --limit 5
  hardquery run rankvideo --input 'gs://bucket/videos/*.mp4' --output gs://bucket/set --set judge.teacher.model=my-model
  hardquery plan demo --input samples/videos --output out/demo
  hardquery view out/demo
  hardquery verify out/demo
  hardquery explain out/demo q-3f2a9c0d11e4b7a2
  hardquery diff out/demo out/other
  hardquery audit judge out/demo --sample 25
  hardquery asr-check demo
  hardquery export rankvideo out/demo
  hardquery cache stats --output out/demo
  hardquery train ranking paper --data out/demo --output runs/ranking --set model=runs/perception
  hardquery train retriever video-colbert --data out/demo --output runs/retriever
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0 done, 1 it broke, 2 wrong usage, 3 verify found problems (or diff --exit-code a difference), 4 the run is sound
    but its budget or a batch left work for later, 5 a step of the run lost all of its items, 130 interrupted. With 3
    and 5 a run has published nothing.
    """
    typed = as_meant(sys.argv[1:] if argv is None else argv)
    command = next(iter(typed), "")
    hush_warnings()
    hush()
    leave_out(typed)
    try:
        ours, beams = split_flags(typed) if command in RUNS else (typed, [])
        if beams and {"-h", "--help"} & {*ours} and (text := run.help_of_runner(beams)):
            print(text)
            return 0
        arguments, rest = _parser().parse_known_args(ours or ["--help"])
        if rest:
            raise UsageError(f"{rest[0]!r} is left over: quotes hold a path with blanks together; see {command} --help")
        arguments.typed = typed
        return int(arguments.act(arguments, beams))
    except (UsageError, BrokenOff) as error:
        print(f"hardquery: {visible(str(error), UNREADABLE)}", file=sys.stderr)  # it may quote a file
        return USAGE_ERROR if isinstance(error, UsageError) else RUN_ERROR
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OF_RUNS:
            raise
        print(f"hardquery: {error}: pip install 'hardquery[run]'", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        continued = "; the same command continues" if command in ("run", "demo", "train", "rerank", "matrix") else ""
        print(f"hardquery: interrupted{continued}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output left, as `head` does.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return RUN_ERROR if command in ("run", "demo") else 0  # a run that nobody watches any more was cut short


def as_meant(argv: Sequence[str]) -> list[str]:
    """What was typed, with the path for a file:// URL, and with an id that begins with a dash told from an option."""
    meant = []
    if argv[:1] == ["help"]:
        argv = [*argv[1:], "--help"]
    for argument in argv:
        option, equals, value = argument.partition("=")
        meant.append(f"{option}={local_path(value)}" if equals else local_path(argument))
    if meant[:1] == ["explain"] and len(meant) == 3 and meant[2].startswith("-") and meant[2] not in ("-h", "--help"):
        meant.insert(2, "--")
    return meant


def entry() -> None:
    """The console script: ``main``, then an end that waits for nobody.

    Native threads of the libraries underneath (Arrow, gRPC) now and then abort the process while the interpreter is
    torn down, after all work is done; a finished command must not end with their exit code.
    """
    gc.set_threshold(*SELDOM)
    code = main()
    sandbox = sys.modules.get("transforms.workers.sandbox")
    if sandbox is not None:
        sandbox.shut_down()  # what the interpreter would have called at exit
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _parser() -> Parser:
    parser = Parser(
        prog="hardquery",
        description="Give it a folder of videos; get back training data that makes a video reranker reason.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"hardquery {version('hardquery')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in _COMMANDS:
        module.add_commands(commands)
    completion.add_command(commands, parser)
    return parser
