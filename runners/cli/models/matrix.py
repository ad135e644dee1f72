"""``hardquery matrix``: rerankers trained on the queries of each output, asked the held-out queries of each."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runners.cli.errors import UsageError, needs_extra, one_line, sentence

if TYPE_CHECKING:
    from schemas.query import Candidate

_EPILOG = """\
A figure on queries of the writer that one trained on says little of another's, nor of people's. Outputs of the same
videos, seed and validation_fraction hold out the same videos: of two writers, or of one variant each, which a run takes
from the cache (--set 'synthesize.variants=[asr]'). People's queries are one more column. The same command goes on.

example:
  hardquery matrix paper --data a=out/writer-a --data b=out/writer-b --output runs/matrix --set model=runs/perception
"""
PEOPLE = "people"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_MEASURE = "nDCG@10"

Cells = Mapping[str, Mapping[str, float]]  # by what was trained on, then by who asked


@dataclass(frozen=True)
class Asked:
    """What is asked of one column: held-out queries of an output, what its first stage found, and what answers them."""

    name: str
    output: str
    queries: Mapping[str, str]
    videos: frozenset[str]
    run: Mapping[str, Sequence[Candidate]]
    qrels: Mapping[str, Mapping[str, int]]


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "train a reranker on each of several outputs, and ask each the queries of all"
    parser = commands.add_parser(
        "matrix",
        help=text,
        description=sentence(text),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", help="a preset or a YAML file, as for `train`")
    parser.add_argument(
        "--data", action="append", default=[], metavar="NAME=OUT", help="an output, by a name for it; at least two"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="for the runs' folders, and matrix.json")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="change one value of CONFIG"
    )
    parser.add_argument("--depth", type=int, default=20, metavar="N", help="candidates a query (default: %(default)s)")
    parser.add_argument("--device", metavar="NAME", help="such as cuda:1 or cpu (default: cuda where there is one)")
    parser.set_defaults(act=_act)


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    with needs_extra("train"), needs_extra("evaluate"), one_line(ValueError, OSError):
        outputs = named(arguments.data)
        columns, trained_on = asked_by(outputs), {name: split_of(output, "train") for name, output in outputs.items()}
        require_apart(trained_on, columns)
        cells = _cells(arguments, outputs, columns)
        (Path(arguments.output) / "matrix.json").write_text(json.dumps(cells, indent=1) + "\n", "utf-8")
        print(as_table(cells, columns))
    return 0


def named(data: Sequence[str]) -> dict[str, str]:
    """The outputs by name.

    Raises:
        UsageError: there are fewer than two, or one has no name of its own.
    """
    found: dict[str, str] = {}
    for each in data:
        name, equals, output = each.partition("=")
        if not equals or not _NAME.fullmatch(name) or name in (*found, PEOPLE):
            raise UsageError(f"--data {each!r}: must be NAME=OUT, each with a name of its own that is not {PEOPLE!r}")
        found[name] = output
    if len(found) < 2:
        raise UsageError("--data: a matrix has at least two outputs, such as --data a=out/a --data b=out/b")
    return found


def split_of(output: str, split: str) -> frozenset[str]:
    """The videos of a split of an output."""
    from pipeline.outputs.manifest import read_manifest

    rows = read_manifest(output).tables(output).rows("videos", ["video_id", "split"])
    return frozenset(row["video_id"] for row in rows if row["split"] == split)


def asked_by(outputs: Mapping[str, str]) -> list[Asked]:
    """The held-out queries of each output that its writer wrote, and those by people of the first that has some.

    Raises:
        UsageError: an output holds out no query of its writer.
    """
    columns = []
    people: Asked | None = None
    for name, output in outputs.items():
        written, human = (_asked(name, output, source) for source in ("teacher", "human"))
        if not written.queries:
            raise UsageError(f"--data {name}={output}: holds out no written query (emit.validation_fraction)")
        columns.append(written)
        people = people or (human if human.queries else None)
    return [*columns, *([people] if people else [])]


def _asked(name: str, output: str, source: str) -> Asked:
    from pipeline.outputs.manifest import read_manifest
    from pipeline.outputs.run_lines import RUN
    from transforms.storage.files import join
    from transforms.storage.trec import read_qrels, read_run

    held_out = split_of(output, "validation")
    rows = read_manifest(output).tables(output).rows("queries", ["query_id", "video_id", "text", "source", "verdict"])
    kept = [r for r in rows if r["verdict"] == "kept" and r["source"] == source and r["video_id"] in held_out]
    qrels = read_qrels(join(output, "qrels.trec"))
    queries = {row["query_id"]: row["text"] for row in kept if row["query_id"] in qrels}
    run = {query_id: found for query_id, found in read_run(join(output, RUN)).items() if query_id in queries}
    videos = frozenset(row["video_id"] for row in kept)
    column = PEOPLE if source == "human" else name
    return Asked(column, output, queries, videos, run, {query_id: qrels[query_id] for query_id in queries})


def require_apart(trained_on: Mapping[str, frozenset[str]], columns: Sequence[Asked]) -> None:
    """Refuse to ask about what was trained on.

    Raises:
        UsageError: a video that answers a held-out query is trained on elsewhere.
    """
    for name, videos in trained_on.items():
        for column in columns:
            if shared := sorted(videos & column.videos):
                raise UsageError(
                    f"{name} is trained on {len(shared)} videos that {column.output} holds out, such as {shared[0]!r}: "
                    "make both with the same seed and emit.validation_fraction"
                )


def _cells(arguments: argparse.Namespace, outputs: Mapping[str, str], columns: Sequence[Asked]) -> dict[str, Any]:
    from trainer.config.config import load_config
    from trainer.rerank import load_reranker, rerank
    from trainer.run import train

    config = load_config(arguments.config, arguments.settings)
    cells = {"first stage": {column.name: ndcg(column, column.run) for column in columns}}
    for name, output in outputs.items():
        folder = Path(arguments.output) / name
        train("ranking", config, output, str(folder))
        cells[name] = {}
        for column in columns:
            reranker = load_reranker(folder, column.output, arguments.device)
            partial = folder / f"asked-by-{column.name}.partial"
            found = rerank(reranker, column.run, column.queries, partial, depth=arguments.depth)
            cells[name][column.name] = ndcg(column, found)
    return cells


def ndcg(column: Asked, run: Mapping[str, Sequence[Candidate]]) -> float:
    """nDCG@10 of the mean query of a column."""
    from trainer.evaluate import mean, per_query

    return mean(per_query(column.qrels, run, ties="rank")[_MEASURE])


def as_table(cells: Cells, columns: Sequence[Asked]) -> str:
    """Markdown: a row for what was trained on, a column for who asked, with the number of queries."""
    head = " | ".join(f"asked by {column.name} ({len(column.queries):,})" for column in columns)
    lines = [f"{_MEASURE}", "", f"| trained on | {head} |", "|---|" + "---:|" * len(columns)]
    for name, found in cells.items():
        lines.append(f"| {name} | {' | '.join(f'{found[column.name]:.3f}' for column in columns)} |")
    return "\n".join(lines)
