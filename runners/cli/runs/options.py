"""The options of `run` and `plan`; light, so that --help is quick."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import Any

from runners.request import Request


def request_of(arguments: argparse.Namespace, beam_flags: list[str]) -> Request:
    """What a command was asked to do; what it has no option for stays as it is by default."""
    given: dict[str, Any] = {f.name: getattr(arguments, f.name) for f in fields(Request) if hasattr(arguments, f.name)}
    return Request(**given | {"settings": tuple(arguments.settings), "beam_flags": tuple(beam_flags)})


def add_input(parser: argparse.ArgumentParser) -> None:
    """The options that say what to do, on what, and where the result goes."""
    parser.add_argument("recipe", metavar="RECIPE", help="a recipe's name (see hardquery recipes) or a YAML file")
    parser.add_argument(
        "-i",
        "--input",
        required=True,
        metavar="PATH",
        help="a folder, a glob, one file, or a manifest (.jsonl, .parquet, .csv, .tsv)",
    )
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="where the training set goes")
    parser.add_argument("--queries", metavar="TSV", help="queries written by people, id<TAB>text, to mix in")
    parser.add_argument("--qrels", metavar="TREC", help="their relevant videos, in TREC format")
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help="marks of what is wrong, which are left out (default: labels.jsonl in the output, where `hardquery view` "
        "puts them; '' for none)",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that say how it is done, and where results are kept."""
    parser.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="only N of the input's videos, drawn by the recipe's seed: N + 1 draws the same and one more, and of a "
        "folder that has grown it draws mostly the same; results are kept for runs with more",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one value of the recipe, such as curate.alpha1=-4; may be repeated",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="videos worked on at a time on this machine (default: one a core)",
    )
    parser.add_argument(
        "--cache",
        metavar="DIR",
        help="where frames, sound and the journal of all results are kept, for this and later runs, which may share it "
        "(default: .hardquery beside the output)",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="make the output again, of cached results, even where it was made of the same files, recipe, engines, "
        "prompts and versions and nothing is left to be tried again: such an output is otherwise left as it is",
    )
    parser.add_argument(
        "--retry-failures",
        choices=("transient", "all", "none"),
        default="transient",
        help="which failures of earlier runs are tried again: those that time may have cured (default), all, or none",
    )


def add_budget(parser: argparse.ArgumentParser) -> None:
    """The options that bound what a run may spend."""
    bounds = (
        (
            "--max-calls",
            int,
            "N",
            "calls of captioner and teacher (trying out a server does not count)",
        ),
        ("--max-tokens", int, "N", "tokens of these calls, in and out (or a little later: calls under way end)"),
        ("--max-cost", float, "DOLLARS", "dollars by the prices in the recipe's section costs (or a little later)"),
    )
    for option, kind, unit, what in bounds:
        parser.add_argument(option, type=kind, metavar=unit, help=f"stop paying before this run exceeds so many {what}")


def add_batch(parser: argparse.ArgumentParser) -> None:
    """The option that puts the teacher's questions into files instead of asking them."""
    parser.add_argument(
        "--batch",
        metavar="DIR",
        help="do not ask the teacher's server, but write what would be asked into files in DIR, and leave the rest for "
        "the same command once the replies are read: see hardquery batch --help",
    )
