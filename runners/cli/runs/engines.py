"""``hardquery engines``: what can stand in each place of a recipe, and what is missing for it."""

from __future__ import annotations

import argparse
from typing import Any

from runners.cli.errors import UsageError, sentence


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "list all engines: what a recipe may name, where it comes from, and what it lacks here"
    parser = commands.add_parser(
        "engines",
        help=text,
        description=f"{sentence(text)} Other distributions add engines by entry points of the group hardquery.engines "
        "(docs/extend.md).",
        allow_abbrev=False,
    )
    parser.add_argument("modality", nargs="?", metavar="MODALITY", help="only these, such as asr or teacher")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(act=act)


def act(arguments: argparse.Namespace, _: list[str]) -> int:
    """Print a line an engine, below the name of its place."""
    from schemas.configuration.section import did_you_mean
    from transforms.engines.registry import ENGINES, known_engines

    wanted = arguments.modality
    if wanted is not None and wanted not in ENGINES:
        raise UsageError(f"modality {wanted!r} is not known{did_you_mean(wanted, list(ENGINES))}")
    found = [one for one in known_engines() if wanted in (None, one.modality)]
    if arguments.json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
        return 0
    if not found:
        print(f"no {wanted} is installed; other distributions add them: docs/extend.md")
    place = None
    for one in found:
        if one.modality != place:
            print(one.modality)
            place = one.modality
        needs = f"needs {', '.join(one.requires)}" if one.requires else "needs nothing more"
        print(f"  {one.name:<22} {one.origin}; {one.trouble or f'ready ({needs})'}")
    return 0
