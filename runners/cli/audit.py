"""``hardquery audit``: what a judge's labels and margins are worth, by itself and by people's."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from runners.cli.errors import BrokenOff, UsageError, connect_stores, one_line, sentence

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
  hardquery audit judge out/demo
  hardquery audit judge out/set --sample 25
  hardquery audit judge out/set --sample 25 --set judge.teacher.base_url=http://localhost:8001/v1
"""

_PEOPLE = """\
Blind labelling: `sample` draws pairs that the output keeps, `hardquery view OUT --label` shows them without what the
judge and the first stage make of them, and `agreement` holds the judge against people: Cohen's kappa, and how many
false negatives are left.

examples:
  hardquery audit sample out/set --n 200
  hardquery view out/set --label
  hardquery audit agreement out/set --publish
  hardquery audit judge out/set --sample 25
"""


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    raw = argparse.RawDescriptionHelpFormatter
    text = "what the labels of an output are worth: ask its judge again, or people who do not see its answers"
    audit = commands.add_parser(
        "audit", help=text, description=sentence(text), epilog=_PEOPLE, formatter_class=raw, allow_abbrev=False
    )
    kinds = audit.add_subparsers(dest="kind", required=True, metavar="WHAT")
    text = "coverage, calibration, biases and gullibility of the judge of an output"
    for parsers, name, said in ((kinds, "judge", text), (commands, "judge-audit", "an older name of `audit judge`")):
        _add_judge(
            parsers.add_parser(
                name, help=said, description=sentence(text), epilog=_EPILOG, formatter_class=raw, allow_abbrev=False
            )
        )
    sample = kinds.add_parser("sample", help="draw pairs for people to label, stratum by stratum", allow_abbrev=False)
    sample.add_argument("output", metavar="OUT")
    sample.add_argument("--n", type=int, default=200, metavar="N", help="pairs in all (default: %(default)s)")
    sample.add_argument("--seed", type=int, default=0, metavar="N", help="another draws others (default: %(default)s)")
    sample.set_defaults(act=_sample)
    agree = kinds.add_parser("agreement", help="the judge against the people who labelled", allow_abbrev=False)
    agree.add_argument("output", metavar="OUT")
    agree.add_argument("--json", action="store_true", help="print JSON")
    agree.add_argument("--publish", action="store_true", help="put the figures into the card and the report of OUT too")
    agree.set_defaults(act=_agreement)


def _add_judge(parser: argparse.ArgumentParser) -> None:
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


def _sample(arguments: argparse.Namespace, _: list[str]) -> int:
    from pipeline.audit.blind import draw, write_sample
    from pipeline.outputs.manifest import read_manifest

    output = arguments.output.rstrip("/")
    if arguments.n < 1:
        raise UsageError(f"--n must be at least 1, got {arguments.n}")
    connect_stores(output)
    with one_line(ValueError, OSError):
        drawn = draw(read_manifest(output).tables(output), arguments.n, arguments.seed)
        print(f"{len(drawn)} pairs: {write_sample(output, drawn)}; label them with `hardquery view {output} --label`")
    return 0


def _agreement(arguments: argparse.Namespace, _: list[str]) -> int:
    import msgspec

    from pipeline.audit.agreement import agreement, agreement_text
    from pipeline.audit.blind import joined, read_answers, read_sample
    from pipeline.audit.publish_agreement import publish_agreement
    from pipeline.outputs.manifest import read_manifest

    output = arguments.output.rstrip("/")
    connect_stores(output)
    with one_line(ValueError, OSError):
        asked = read_sample(output)
        drawn, gone = joined(read_manifest(output).tables(output), asked)
        found = agreement(drawn, read_answers(output), gone=gone)
        if arguments.publish:
            publish_agreement(output, found)
    print(msgspec.json.encode(found).decode() if arguments.json else agreement_text(output, found))
    return 0


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
    from pipeline.engines import find_judge, find_judge_parser
    from prompts.template import Template

    recipe = parse_recipe(changed(manifest.recipe, settings))
    template = Template("judge", manifest.prompts["judge"].text, find_judge_parser(recipe))
    judge = recipe.judge
    return Judge(find_judge(recipe), journal, template, judge.modalities, judge.evidence, recipe.seed)
