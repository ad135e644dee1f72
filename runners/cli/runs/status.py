"""``hardquery status``: what became of an output, or how far the run is that makes it."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runners.cli.errors import UsageError, connect_stores, sentence

if TYPE_CHECKING:  # heavy, and --help is quick
    from runners.console.kept import Kept


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "how far the run is that makes an output, or was when it ended; from any shell"
    parser = commands.add_parser(
        "status",
        help=text,
        description=f"{sentence(text)} A run is at work if its lock is held; counts are those that it kept last.",
        allow_abbrev=False,
    )
    parser.add_argument("output", metavar="OUT")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(act=act)


@dataclass(frozen=True)
class Status:
    """``state`` is one of running, elsewhere, stopped, not published and published; ``said`` is it in a line."""

    state: str
    said: str
    kept: Kept | None = None


def act(arguments: argparse.Namespace, _: list[str]) -> int:
    """Say what the state is, and how far it went."""
    output = arguments.output.rstrip("/")
    connect_stores(output)
    found = status(output)
    if arguments.json:
        import msgspec

        from runners.console.progress import as_json

        fields: dict[str, object] = {"state": found.state, "said": found.said}
        if found.kept is not None:
            fields |= {"at": found.kept.at, **as_json(found.kept.seen)}
        print(msgspec.json.encode(fields).decode())
        return 0
    print(found.said)
    if found.kept is not None:
        from rich.console import Console

        from runners.console.progress import table, time_line

        console = Console(highlight=False)
        console.print(f"as of {found.kept.at}, {time_line(found.kept.seen)}:", soft_wrap=True)
        console.print(table(found.kept.seen))
    return 0


def status(output: str) -> Status:
    """What became of an output.

    Raises:
        UsageError: nothing was ever run into it.
    """
    from pipeline.finish import is_computed, read_submitted
    from pipeline.outputs.lock import holder_of
    from pipeline.outputs.manifest import NotAnOutput, has_manifest, read_manifest
    from pipeline.outputs.staging import is_half_published, staging_of
    from runners.console.kept import read_kept

    kept = read_kept(output)
    before = " An earlier output stands as it was." if has_manifest(output) else ""
    if (holder := holder_of(output)) is not None:
        who = f"process {holder.pid} on {holder.host}, since {holder.started} ({holder.command})"
        return Status("running", f"{output}: running, {who}.{before}", kept)
    if (submitted := read_submitted(output)) is not None:
        where = f"a job on {submitted.info.runner} {submitted.job} {submitted.page}".rstrip()
        return Status("elsewhere", f"{output}: waits for {where}: hardquery finish {output}.{before}", kept)
    if is_half_published(output):
        said = f"{output}: half published, by a run that was interrupted at its very end; the same command finishes it"
        return Status("stopped", said)
    if is_computed(output):
        staging = staging_of(output)
        said = f"{output}: a run came to its end and was not published; what it made stands in {staging}.{before}"
        return Status("not published", said, kept)
    if kept is not None:
        said = f"{output}: a run was stopped before its end; the same command goes on, and repeats nothing.{before}"
        return Status("stopped", said, kept)
    try:
        manifest = read_manifest(output)
    except NotAnOutput as error:
        raise UsageError(f"{output}: nothing was run into it, as far as can be seen: {error}") from error
    tables = manifest.tables(output)
    rows = ", ".join(f"{tables.count(name):,} {named}" for name, named in (("videos", "videos"), ("ranking", "groups")))
    return Status("published", f"{output}: published, of the run that began {manifest.created}: {rows}")
