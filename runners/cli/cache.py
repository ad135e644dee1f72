"""``hardquery cache``: what a cache holds, whether it is sound, and what of it can go."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from runners.cli.errors import PROBLEMS, BrokenOff, connect_stores, one_line, sentence

if TYPE_CHECKING:  # heavy, and --help is quick
    from rich.table import Table

    from pipeline.cache.contents import Contents
    from pipeline.cache.prune import Pruning
    from pipeline.cache.stats import CacheStats, StepStats

_UNITS_S = {"h": 3600.0, "d": 86_400.0}
_SHOWN = 50  # problems


def add_commands(commands_above: Any) -> None:
    """The command, with those below it."""
    text = "what a cache holds, whether it is sound, and what of it can go"
    parser = commands_above.add_parser("cache", help=text, description=sentence(text))
    parser.set_defaults(act=_act)
    commands = parser.add_subparsers(dest="what", required=True, metavar="COMMAND")
    place = argparse.ArgumentParser(add_help=False)
    either = place.add_mutually_exclusive_group()
    either.add_argument("--cache", metavar="DIR", help="the cache (default: .hardquery in the current folder)")
    either.add_argument("--output", metavar="OUT", help="the output that the cache lies beside")

    text = "what is in a cache: results by step, engine, model and prompt, and what they took"
    stats = commands.add_parser("stats", help=text, description=sentence(text), parents=[place])
    stats.add_argument("--json", action="store_true", help="print JSON")

    text = "read every record and hash every file that one names; exit code 3 if something is damaged"
    commands.add_parser("verify", help=text, description=sentence(text), parents=[place])

    text = "make few long segments of the many short ones that workers sent to a journal in an object store"
    commands.add_parser("compact", help=text, description=f"{sentence(text)} Runs may go on.", parents=[place])

    text = "remove what no run reads any more: damaged and repeated records, files that no record names"
    prune = commands.add_parser(
        "prune",
        help=text,
        description=f"{sentence(text)} Refused while a run uses the cache. Of a cache in an object store, which cannot "
        "tell, only what was written more than a day ago is touched; use --older-than there only while no run is "
        "active.",
        parents=[place],
    )
    prune.add_argument("--step", metavar="STEP", help="only what is of one step, such as judge")
    prune.add_argument(
        "--older-than",
        type=_seconds,
        metavar="AGE",
        help="remove also sound results that were made longer ago, such as 30d or 12h; who needs them makes them again",
    )
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")


def root_of(arguments: argparse.Namespace) -> str:
    """The cache that a command is about."""
    from runners.job import default_cache

    root: str = default_cache((arguments.output or "here").rstrip("/")) if arguments.cache is None else arguments.cache
    return root.rstrip("/")


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.outputs.errors import with_fix
    from transforms.storage.cache_lock import CacheInUse

    root = root_of(arguments)
    connect_stores(root)
    try:
        with one_line(ValueError, CacheInUse):
            return 0 if _carry_out(root, arguments) else PROBLEMS
    except BrokenPipeError:
        raise
    except OSError as error:
        raise BrokenOff(f"the cache {root} cannot be read or written to: {with_fix(str(error))}") from error


def _carry_out(root: str, arguments: argparse.Namespace) -> bool:
    """Whether the cache is sound, as far as the command has looked."""
    from pipeline.cache.contents import look_into, require_cache
    from transforms.storage.cache_lock import having_alone, sharing

    require_cache(root)
    removes = arguments.what == "prune" and not arguments.dry_run
    with (having_alone if removes else sharing)(root):
        acts = {"stats": _stats, "verify": _verify, "prune": _prune, "compact": _compact}
        return acts[arguments.what](look_into(root), arguments)


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d+)([dh])", age)
    if found is None:
        raise argparse.ArgumentTypeError(f"{age!r} is no age such as 30d or 12h")
    return int(found[1]) * _UNITS_S[found[2]]


def _stats(contents: Contents, arguments: argparse.Namespace) -> bool:
    import msgspec
    from rich.console import Console

    from pipeline.cache.stats import stats

    found = stats(contents)
    if arguments.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
        return True
    console = Console(highlight=False, soft_wrap=True, markup=False)  # names of models hold anything
    console.print(_steps_table(found))
    console.print("failed: tried again by later runs; hours: of work, added up over all threads")
    asked = [step for step in found.steps if step.requests or step.input_tokens or step.output_tokens]
    if asked:
        console.print()
        console.print(_usage_table(asked))
        console.print(
            "in, out: tokens that servers told; cached: those of in that they had read before; reasoning: of out"
        )
        console.print()
    for kind in ("frames", "audio", "vectors", "packs"):
        files = getattr(found, kind)
        console.print(f"{kind}: {files.files:,} files, {_size(files.size_bytes)}")
    console.print()
    console.print(_origins_table(found))
    return True


def _steps_table(found: CacheStats) -> Table:
    names = ("step", "records", "keys", "repeated", "failed", "for good", "hours", "size")
    table = _table(names, right=names[1:])
    for step in found.steps:
        counts = (step.records, step.keys, step.repeated, step.failed_transient, step.failed_permanent)
        table.add_row(
            step.step, *(f"{count:,}" for count in counts), f"{step.seconds / 3600:,.2f}", _size(step.size_bytes)
        )
    return table


def _usage_table(asked: Iterable[StepStats]) -> Table:
    names = ("step", "requests", "retries", "in", "cached", "out", "reasoning")
    table = _table(names, right=names[1:])
    for step in asked:
        table.add_row(
            step.step,
            *(f"{count:,}" for count in (step.requests, step.retries, step.input_tokens)),
            f"{step.cached_tokens / step.cacheable_tokens:.0%}" if step.cacheable_tokens else "-",
            f"{step.output_tokens:,}",
            f"{step.reasoning_tokens:,}" if step.reasoning_tokens else "-",
        )
    return table


def _origins_table(found: CacheStats) -> Table:
    table = _table(("step", "records", "engine", "model", "settings"), right=("records",))
    for step in found.steps:
        for origin in step.origins:
            engine = origin.engine
            table.add_row(
                step.step,
                f"{origin.records:,}",
                f"{engine.name} {engine.version}" if engine else "",
                engine.model if engine else "",
                " ".join(f"{name}={value}" for name, value in origin.settings.items()),
            )
    return table


def _table(names: Iterable[str], right: Iterable[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in right)
    return table


def _verify(contents: Contents, _: argparse.Namespace) -> bool:
    from pipeline.cache.verify import verify

    found = verify(contents)
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems[:_SHOWN]:
        print(problem)
    if len(found.problems) > _SHOWN:
        print(f"… and {len(found.problems) - _SHOWN} more")
    seen = f"{found.records:,} records and {found.files:,} files"
    many = "s" * (len(found.problems) > 1)
    print(f"{contents.root}: {seen}, " + (f"{len(found.problems)} problem{many}" if found.problems else "all sound"))
    return not found.problems


def _prune(contents: Contents, arguments: argparse.Namespace) -> bool:
    from pipeline.cache.prune import carry_out, plan

    if arguments.step and arguments.step not in contents.segments:
        raise ValueError(
            f"--step {arguments.step!r}: the cache has records of {', '.join(contents.segments) or 'none'}"
        )
    pruning = plan(contents, arguments.step, arguments.older_than)
    if not arguments.dry_run:
        carry_out(pruning, contents)
    for line in _said(pruning):
        print(line)
    print(f"{contents.root}: {_size(pruning.freed_bytes)} {'would be freed' if arguments.dry_run else 'freed'}")
    return True


def _compact(contents: Contents, _: argparse.Namespace) -> bool:
    from pipeline.cache.compact import compact

    done = compact(contents)
    for step in done:
        print(f"journal/{step.step}: segments before: {step.before:,}; now: {step.after:,}")
    if not done:
        print(f"{contents.root}: nothing to make one of")
    return True


def _said(pruning: Pruning) -> Iterable[str]:
    for compaction in pruning.compactions:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in compaction.dropped.items())
        yield (
            f"journal/{compaction.step}: records kept: {compaction.kept.sum():,}; dropped: {dropped or 'none'}; "
            f"segments before: {len(compaction.segments):,}"
        )
    for reason, files in pruning.removed.items():
        if files:
            yield f"files {reason}: {len(files):,}, {_size(sum(file.size_bytes for file in files))}"


def _size(size_bytes: int) -> str:
    from rich.filesize import decimal

    return decimal(size_bytes)
