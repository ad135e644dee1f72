"""``hardquery train``, alone or as one of many processes that torchrun started, and ``hardquery export-model``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from rich.console import Console

from runners.cli.errors import needs_extra, one_line, sentence

_EPILOG = """\
A retriever learns from the videos of a whole batch: retriever.batch decides how hard it is to find the right one, and
retriever.micro_batch how many query groups are in memory at a time. Videos that may answer a query too (of the same
event or near-duplicate group, suspected positives, other known answers) are left out of its loss.

examples:
  hardquery train perception paper --data out/set --output runs/perception
  hardquery train ranking paper --data out/set --output runs/ranking --set model=runs/perception
  hardquery train retriever video-colbert --data out/set --output runs/retriever
  hardquery retrieve --data out/set --model runs/retriever --out run.trec
"""


def add_commands(commands: Any) -> None:
    """The command, with its options."""
    parser = commands.add_parser(
        "train",
        help="train a reranker on an output, in two stages, or a first stage: a retriever",
        description="Train one stage. On several GPUs: torchrun --nproc-per-node N --no-python hardquery train …",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(act=_act)
    parser.add_argument(
        "stage",
        choices=("perception", "ranking", "retriever"),
        help="of a reranker: captions first, then query groups; or a Video-ColBERT, on query groups",
    )
    parser.add_argument(
        "config",
        metavar="CONFIG",
        help="a preset's name (of a reranker paper or release, of a retriever video-colbert or video-colbert-siglip) "
        "or a YAML file",
    )
    parser.add_argument("--data", required=True, metavar="OUT", help="what `hardquery run` wrote: a folder, or s3://…")
    parser.add_argument("--output", required=True, metavar="RUN", help="the run's folder; the same command goes on")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="change one value, such as model=runs/perception or retriever.batch=32; may be repeated",
    )
    parser.add_argument(
        "--report-to",
        action="append",
        default=[],
        metavar="TRACKER",
        help="tell wandb, mlflow, trackio or another tracker that transformers knows of the metrics too, by its own "
        "environment variables; may be repeated. Without it: metrics.jsonl and TensorBoard",
    )

    text = "write the model of a finished run as one folder, a reranker such that vLLM serves it"
    export = commands.add_parser("export-model", help=text, description=sentence(text), allow_abbrev=False)
    export.add_argument("run", metavar="RUN", help="the folder of a run of `hardquery train`")
    export.add_argument("--to", required=True, metavar="DIR", help="a new folder")
    export.set_defaults(act=_act)


def _act(arguments: argparse.Namespace, _: list[str]) -> int:
    from trainer.config.errors import TrainingError

    with needs_extra("train"), one_line(TrainingError):
        (_train if arguments.command == "train" else _export)(arguments)
    return 0


def _export(arguments: argparse.Namespace) -> None:
    from trainer.export import export_model

    print(export_model(Path(arguments.run), Path(arguments.to)))


def _train(arguments: argparse.Namespace) -> None:
    from trainer.config.config import load_config
    from trainer.config.retriever import load_retriever_config

    load = load_retriever_config if arguments.stage == "retriever" else load_config
    config = load(arguments.config, arguments.settings)  # before the libraries below, which take seconds
    from trainer.run import train

    run = train(arguments.stage, config, arguments.data, arguments.output, arguments.report_to)
    if os.environ.get("RANK", "0") == "0":
        Console(stderr=True).print(f"{arguments.stage}: {run.model}", highlight=False, soft_wrap=True, markup=False)
