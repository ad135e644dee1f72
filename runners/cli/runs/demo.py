"""``hardquery demo``: the sample corpus through the embedded engines, from wherever hardquery is installed."""

from __future__ import annotations

import argparse
from typing import Any

from runners.cli.runs.run import act, add_run_options, take_beam_flags
from runners.sample_corpus import samples_folder


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    parser = commands.add_parser(
        "demo",
        help="try it: 30 sample clips become a training set, offline, in a minute or two",
        description="Turn the sample corpus, which is installed with hardquery, into a training set.",
        epilog="It is `hardquery run demo` on the samples with their queries and qrels; so are its options.",
        allow_abbrev=False,
    )
    parser.add_argument("-o", "--output", default="out/demo", metavar="DIR", help="(default: %(default)s)")
    add_run_options(parser)
    take_beam_flags(parser)
    parser.set_defaults(act=_demo, recipe="demo")


def _demo(arguments: argparse.Namespace, beam_flags: list[str]) -> int:
    folder = samples_folder()
    arguments.input = str(folder / "manifest.jsonl")
    arguments.queries, arguments.qrels = str(folder / "queries.tsv"), str(folder / "qrels.trec")
    return act(arguments, beam_flags)
