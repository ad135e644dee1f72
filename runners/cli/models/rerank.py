"""``hardquery rerank``: a TREC run in, the same run in the order of a trained model out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runners.cli.errors import connect_stores, needs_extra, one_line, sentence

_EPILOG = """\
Scores are kept in FILE.partial until the run is written: the same command goes on where it was stopped.

example:
  hardquery rerank --model runs/ranking --data out/set --queries queries.tsv --run out/set/run.trec --out reranked.trec
  hardquery evaluate --qrels out/set/qrels.trec --run reranked.trec --baseline out/set/run.trec
"""


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    text = "order the candidates of a TREC run by a trained model"
    parser = commands.add_parser(
        "rerank",
        help=text,
        description=sentence(text),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--model", required=True, metavar="DIR", help="a run folder of `hardquery train`, or an export")
    parser.add_argument("--data", required=True, metavar="OUT", help="the output whose videos table has the frames")
    parser.add_argument("--run", required=True, metavar="FILE", help="TREC run to rerank")
    parser.add_argument("--queries", required=True, metavar="FILE", help="query texts: id, tab, text")
    parser.add_argument("--out", required=True, metavar="FILE", help="the reranked TREC run")
    parser.add_argument("--depth", type=int, default=100, metavar="N", help="candidates a query (default: %(default)s)")
    parser.add_argument(
        "--at-once", type=int, default=16, metavar="N", help="queries of a video in one pass (default: %(default)s)"
    )
    parser.add_argument(
        "--missing-videos", type=int, default=0, metavar="N", help="how many videos may lack frames (default: none)"
    )
    parser.add_argument("--device", metavar="NAME", help="such as cuda:1 or cpu (default: cuda where there is one)")
    parser.set_defaults(act=_act)


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    connect_stores(arguments.run, arguments.queries)
    with (
        needs_extra("train"),
        one_line(ValueError, OSError),
    ):  # every error of this call is a clear one-line subclass of the two
        _rerank(arguments)
    return 0


def _rerank(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress

    from trainer.rerank import load_reranker, rerank
    from transforms.storage.trec import read_queries, read_run, run_lines, write_lines

    for name in ("depth", "at_once"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(arguments, name)}")
    if "://" in arguments.out:
        raise ValueError(f"--out must be a local file, since scores are kept beside it, got {arguments.out}")
    run, queries = read_run(arguments.run), read_queries(arguments.queries)
    reranker = load_reranker(Path(arguments.model), arguments.data, arguments.device)
    partial = Path(f"{arguments.out}.partial")
    total = sum(min(len(candidates), arguments.depth) for candidates in run.values())
    with Progress(*Progress.get_default_columns(), MofNCompleteColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task("Scoring pairs", total=total)
        reranked = rerank(
            reranker,
            run,
            queries,
            partial,
            depth=arguments.depth,
            at_once=arguments.at_once,
            allowed=arguments.missing_videos,
            told=lambda pairs: progress.advance(task, pairs),
        )
    write_lines(arguments.out, run_lines(reranked, "hardquery"))
    partial.unlink()
    print(arguments.out)
