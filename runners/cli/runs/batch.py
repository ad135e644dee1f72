"""``hardquery batch``: the questions of ``run --batch`` at a server that answers files, and its replies back."""

from __future__ import annotations

import argparse
import os
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.cli.errors import PROBLEMS, BrokenOff, connect_stores, one_line, sentence

if TYPE_CHECKING:  # heavy, and --help is quick
    from pipeline.batch.read import Reading
    from pipeline.batch.server import BatchServer

POLL_S = 60.0
UNDER_WAY = 4  # an exit code, beside those of runners/cli/errors.py

_EPILOG = """\
A run with --batch asks the teacher nothing: it writes its questions into DIR and leaves what hangs on them for later.
One round of it, repeated until the run has nothing left to write (its exit code is then 0):

  hardquery run RECIPE --input VIDEOS --output OUT --batch DIR

  hardquery batch submit DIR                 # OpenAI's batches, at half the price
  hardquery batch fetch DIR                  # waits for them; may be cut short and repeated
  hardquery batch read DIR --output OUT

Or in the place of submit and fetch, offline, on a machine with vLLM and the recipe's model:

  for f in DIR/requests-*.jsonl; do
    vllm run-batch -i "$f" -o "${f/requests-/replies-}" --model MODEL
  done

Any step may be repeated, and the same run without --batch finishes live what is left. What is not answered, because a
batch expired or a file was cut, stays in its file of questions and goes with the next submit. To give questions up,
remove their file. A round writes queries, the next judges them; each further call of judge.teacher.confidence is
another one.
"""


def add_commands(commands: Any) -> None:
    """The command, with those below it."""
    text = "the questions of run --batch: submit them to OpenAI's batches, fetch replies, read them into the journal"
    parser: argparse.ArgumentParser = commands.add_parser(
        "batch",
        help=text,
        description=sentence(text),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    below = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("folder", metavar="DIR", help="the folder of run --batch")
    shared.add_argument(
        "--api-key-env",
        default="OPENAI_API_KEY",
        metavar="NAME",
        help="the environment variable with the server's key (default: %(default)s)",
    )
    shared.add_argument("--api-key-file", default="", metavar="FILE", help="a file with the key instead")
    server = argparse.ArgumentParser(add_help=False)
    server.add_argument(
        "--base-url", default="https://api.openai.com/v1", metavar="URL", help="the server (default: %(default)s)"
    )

    text = "upload every file of questions that is not under way, and begin its batch"
    below.add_parser("submit", help=text, description=sentence(text), parents=[shared, server])

    text = "wait for the batches and download their output and error files"
    fetch = below.add_parser("fetch", help=text, description=sentence(text), parents=[shared, server])
    fetch.add_argument(
        "--once", action="store_true", help=f"look once; exit code {UNDER_WAY} where some are still under way"
    )

    text = "record replies in the journal"
    read = below.add_parser(
        "read",
        help=text,
        description=sentence(
            f"{text}: of output and error files, in any order; exit code {PROBLEMS} where there was trouble"
        ),
        parents=[shared],
    )
    read.add_argument("files", nargs="*", metavar="FILE", help="(default: replies-*.jsonl and errors-*.jsonl in DIR)")
    either = read.add_mutually_exclusive_group(required=True)
    either.add_argument("--output", metavar="OUT", help="the output of the run, which its cache lies beside")
    either.add_argument("--cache", metavar="DIR", help="the cache of the run")
    parser.set_defaults(output=None, cache=None, act=_act)


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.batch.server import BatchServerError
    from transforms.journal.batch_files import BatchInUse
    from transforms.journal.segments import CannotJournal

    connect_stores(arguments.cache, arguments.output)
    with one_line(OSError, BatchServerError, CannotJournal, into=BrokenOff), one_line(ValueError, BatchInUse):
        return _batch(arguments)


def _batch(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    if not os.path.isdir(arguments.folder):
        raise ValueError(f"{arguments.folder!r} is no folder of batch files; hardquery run --batch makes one")
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if arguments.what == "read":
        return _read(arguments, console)
    from pipeline.batch.server import BatchServer

    server = BatchServer(arguments.folder, arguments.base_url, _key(arguments), console.print)
    if arguments.what == "fetch":
        return fetch(server, arguments.once)
    begun = server.submit()
    print(f"{begun:,} batches begun; next: hardquery batch fetch {shlex.quote(arguments.folder)}")
    return 0


def fetch(server: BatchServer, once: bool, sleep: Callable[[float], object] = time.sleep) -> int:
    """Look at the batches until none is under way, or ``once``; returns the exit code."""
    any_failed = False
    while True:
        under_way, failed = server.fetch()
        any_failed |= bool(failed)
        if once or not under_way:
            break
        sleep(POLL_S)
    if under_way:
        print(f"{under_way:,} batches under way")
        return UNDER_WAY
    print("no batch is under way; next: hardquery batch read")
    return PROBLEMS if any_failed else 0


def _key(arguments: argparse.Namespace) -> str:
    from transforms.engines.server.api_key import read_key

    key = read_key(arguments.api_key_env, arguments.api_key_file)
    if not key:
        raise ValueError(
            f"no key: set the environment variable {arguments.api_key_env} (to anything, if the server asks for none), "
            "or give --api-key-file"
        )
    return key


def _read(arguments: argparse.Namespace, console: Any) -> int:
    from contextlib import closing

    from rich.progress import Progress

    from pipeline.batch.read import read_batch
    from pipeline.cache.contents import require_cache
    from runners.cli.cache import root_of
    from transforms.engines.server.api_key import read_key
    from transforms.journal.batch_files import reply_files
    from transforms.journal.journal import Journal

    root = root_of(arguments)
    require_cache(root)
    files = [Path(name) for name in arguments.files] or reply_files(arguments.folder)
    if not files:
        raise ValueError(
            f"no replies-*.jsonl or errors-*.jsonl in {arguments.folder}; hardquery batch fetch brings them; or name "
            "the files that vllm run-batch wrote"
        )
    sizes = sum(path.stat().st_size for path in files)
    key = read_key(arguments.api_key_env, arguments.api_key_file)
    with Progress(console=console, disable=not console.is_terminal) as bar, closing(Journal(root, "all")) as journal:
        task = bar.add_task("reading", total=sizes)
        reading = read_batch(arguments.folder, files, journal, key, lambda size: bar.advance(task, size))
    return _say(reading, arguments.folder)


def _say(reading: Reading, folder: str) -> int:
    waiting = _waiting(folder)
    said = f"{reading.replies:,} replies and {reading.failures:,} failures recorded, {reading.before:,} known before"
    print(f"{said}; {waiting:,} questions wait on" + (", which the next submit takes" if waiting else ""))
    for trouble in reading.troubles:
        print(f"{trouble.count:,} {trouble.what}: {'; '.join(trouble.examples)}")
    print("next: the same hardquery run --batch, which writes what comes after")
    return PROBLEMS if reading.troubles else 0


def say_what_next(folder: str, work: Mapping[str, Mapping[str, int]], output: str, cache: str | None) -> None:
    """The end of a run with --batch: how many questions it wrote, how many wait, and what to do with them."""
    from transforms.journal.open_journal import BATCHED

    written = {step: counts[BATCHED] for step, counts in work.items() if counts.get(BATCHED)}
    waiting = _waiting(folder)
    if not waiting:
        print("batch: no question is left")
        return
    by_step = f" ({', '.join(f'{step} {count:,}' for step, count in written.items())})" if written else ""
    where = shlex.quote(folder)
    place = f"--cache {shlex.quote(cache)}" if cache else f"--output {shlex.quote(output)}"
    print(f"batch: {sum(written.values()):,} questions written{by_step}; {waiting:,} wait in {where}")
    print(f"next: hardquery batch submit {where} && hardquery batch fetch {where}, or vllm run-batch: see batch --help")
    print(f"then: hardquery batch read {where} {place}, and the same run again")


def _waiting(folder: str) -> int:
    """How many questions wait for a reply."""
    from transforms.journal.batch_files import request_files

    count = 0
    for path in request_files(folder):
        with path.open("rb") as lines:
            count += sum(1 for _ in lines)
    return count
