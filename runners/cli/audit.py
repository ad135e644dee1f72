"""``hardquery judge-audit``: what a judge's labels and margins are worth."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from runners.cli.errors import BrokenOff, connect_stores, one_line, sentence

if TYPE_CHECKING:  # heavy, and --help is quick
    from pipeline.audit.ask import Judge
    from pipeline.outputs.manifest import Manifest
    from transforms.journal.journal import Journal

_EPILOG = """\
Without --sample it only reads the output. --sample N asks the judge of the run about N judged pairs (with the two
answers in the other order, in other words, with another seed) and about N queries with a video that has nothing to do
with them (as they are, and with texts planted that try to talk it into yes): about 12 N questions, or more where
confidence takes further calls. Replies are kept in the cache: the same audit again asks nothing.

examples:
  hardquery judge-audit out/demo
  hardquery judge-audit out/set --sample 25
  hardquery judge-audit out/set --sample 25 --set judge.teacher.base_url=http://localhost:8001/v1
"""


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "coverage, calibration, biases and gullibility of the judge of an output"
    parser = commands.add_parser(
        "judge-audit",
        help=text,
        description=sentence(text),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("output", metavar="OUT")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="ask about so many pairs (default: none)")
    parser.add_argument("--cache", metavar="DIR", help="where replies are kept (default: .hardquery beside OUT)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="override a value of the recipe that OUT was made with, such as judge.teacher.base_url=…",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(act=_act)


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    from transforms.storage.cache_failed import CacheFailed

    connect_stores(arguments.output, arguments.cache)
    # Every error of this call is a clear one-line subclass of these.
    with one_line(CacheFailed, into=BrokenOff), one_line(ValueError, OSError):
        _audit(arguments)
    return 0


def _audit(arguments: argparse.Namespace) -> None:
    from contextlib import closing

    from rich.console import Console
    from rich.progress import Progress

    from pipeline.audit.audit import audit, questions_of
    from pipeline.audit.text import audit_json, audit_text
    from pipeline.outputs.manifest import read_manifest
    from runners.job import default_cache
    from transforms.journal.journal import Journal

    output = arguments.output.rstrip("/")
    if arguments.sample < 0:
        raise ValueError(f"--sample must not be negative, got {arguments.sample}")
    manifest = read_manifest(output)
    tables = manifest.tables(output)
    if arguments.sample:
        journal = Journal(arguments.cache or default_cache(output))
        judge = _judge(manifest, arguments.settings, journal)
        with closing(journal):
            questions = questions_of(output, tables, judge, arguments.sample)
            with Progress(console=Console(stderr=True)) as progress:
                asked = progress.add_task("Asking the judge", total=len(questions))
                found = audit(manifest, tables, judge, questions, told=lambda: progress.advance(asked))
    else:
        found = audit(manifest, tables)
    print(audit_json(found) if arguments.json else audit_text(output, manifest, found).rstrip("\n"))


def _judge(manifest: Manifest, settings: list[str], journal: Journal) -> Judge:
    """The judge that made an output, with its own prompt, where ``settings`` say nothing else."""
    from pipeline.audit.ask import Judge
    from pipeline.config import changed, parse_recipe
    from pipeline.engines import find_judge
    from prompts.template import Template

    recipe = parse_recipe(changed(manifest.recipe, settings))
    template = Template("judge", manifest.prompts["judge"].text)
    judge = recipe.judge
    return Judge(find_judge(recipe), journal, template, judge.modalities, judge.evidence, recipe.seed)
