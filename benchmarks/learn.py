"""Does training help? A tiny model learns a small world in both stages and reranks queries that it has not seen.

``python -m benchmarks.learn`` is one run (`make train-demo`); ``--seeds 3 --compare stages losses`` is the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch

from benchmarks.balls import FRAMES, PIXELS, World, write_world
from tests import tiny_vlm
from trainer.config import TrainConfig, load_config
from trainer.evaluate import mean, per_query
from trainer.rerank import load_reranker, rerank
from trainer.run import train
from transforms.trec import read_qrels, read_queries, read_run, run_lines, write_lines

PERCEPTION_EPOCHS, RANKING_EPOCHS = 6, 1
NOISE = 0.09
GAIN = 0.03
"""By so much nDCG@10 must exceed the first stage's, or the command fails."""

_LOSSES = {
    "P": ["ranking.losses.teacher.weight=0", "ranking.losses.pointwise.weight=0"],
    "P+PT": ["ranking.losses.teacher.weight=0"],
    "P+PT+T": [],
}
_STAGES = {"stage 1 only": ("perception",), "stage 2 only": ("ranking",), "both stages": ("perception", "ranking")}


@dataclass(frozen=True)
class Outcome:
    """nDCG@10 of the first stage's run, and of the run in the model's order; CPU seconds of training and scoring."""

    first: float
    reranked: float
    cpu_s: float


def learn(folder: Path, world: World, seed: int, stages: Sequence[str], settings: Sequence[str] = ()) -> Outcome:
    """Train a model from random weights and rerank the held-out queries with it."""
    start = time.process_time()
    base = _model(folder / "base", world, seed)
    model = base
    for stage in stages:
        config = _config(model, seed, settings)
        model = folder / stage
        _say(f"{stage}: training")
        train(stage, config, world.train, str(model))  # type: ignore[arg-type]
        _say(f"{stage}: {_last_metrics(model)}")
    run = read_run(f"{world.held_out}/run.trec")
    reranker = load_reranker(model, world.held_out, "cpu")
    reranked = rerank(reranker, run, read_queries(world.queries), folder / "scores.jsonl")
    write_lines(str(folder / "reranked.trec"), run_lines(reranked, "model"))
    qrels = read_qrels(f"{world.held_out}/qrels.trec")
    first, after = (mean(per_query(qrels, one)["nDCG@10"]) for one in (run, read_run(str(folder / "reranked.trec"))))
    return Outcome(first, after, time.process_time() - start)


def _model(folder: Path, world: World, seed: int) -> Path:
    config = load_config("paper")
    prompts = [config.perception.prompt, config.ranking.prompt]
    texts = [text for prompt in prompts for text in (prompt.system, prompt.user)] * 20
    texts += list(read_queries(world.queries).values()) * 20
    sizes = {"hidden": 128, "layers": 4, "heads": 4, "vision": 64, "vision_layers": 2, "init": 0.07}
    return tiny_vlm.build(folder, "qwen3_vl", texts, seed=seed, **sizes)


def _config(model: Path, seed: int, settings: Sequence[str]) -> TrainConfig:
    """The preset `paper`, with what a model of a million weights needs: all of them trained, and larger steps."""
    own = {
        "model": json.dumps(str(model)),
        "lora": "null",
        "precision": "fp32",
        "activation_checkpointing": "false",
        "loader_workers": "0",
        "max_pixels": PIXELS**2,
        "seed": seed,
        "perception.epochs": PERCEPTION_EPOCHS,
        "perception.batch": 24,
        "perception.micro_batch": 24,
        "perception.learning_rate": 2e-3,
        "perception.frames": FRAMES,
        "perception.validate_steps": 100_000,
        "ranking.epochs": RANKING_EPOCHS,
        "ranking.batch": 6,
        "ranking.micro_batch": 6,
        "ranking.negatives": 3,
        "ranking.learning_rate": 7e-4,
        "ranking.frames": FRAMES,
        "ranking.validate_steps": 100_000,
    }
    return load_config("paper", [*(f"{key}={value}" for key, value in own.items()), *settings])


def _last_metrics(run: Path) -> str:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line for line in lines if "loss" in line]
    found = {name: value for line in (*losses[-1:], *lines[-1:]) for name, value in line.items()}
    return ", ".join(f"{name} {value:.3f}" for name, value in found.items() if "loss" in name or "ndcg" in name)


def _say(text: str) -> None:
    print(f"[{time.process_time():5.0f} CPU s] {text}", file=sys.stderr, flush=True)


def _rows(compare: Sequence[str], seeds: int, folder: Path) -> Iterator[tuple[str, list[Outcome]]]:
    cases: list[tuple[str, float, Sequence[str], Sequence[str]]] = []
    if "stages" in compare:
        cases += [(name, 0.0, stages, ()) for name, stages in _STAGES.items()]
    if "losses" in compare:
        both = _STAGES["both stages"]
        for flipped, labels in ((0.0, "clean labels"), (NOISE, f"{NOISE:.0%} wrong labels")):
            cases += [(f"{name}, {labels}", flipped, both, terms) for name, terms in _LOSSES.items()]
    for name, flipped, stages, terms in cases or [("both stages", 0.0, _STAGES["both stages"], ())]:
        outcomes = []
        for seed in range(seeds):
            _say(f"{name}, seed {seed}")
            at = folder / f"{name.replace(' ', '-').replace('%', '')}-{seed}"
            world = write_world(at / "world", seed, flipped)
            outcomes.append(learn(at, world, seed, stages, terms))
        yield name, outcomes


def main() -> int:
    """Print the table; exit code 1 if training both stages does not help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--compare", nargs="*", choices=("stages", "losses"), default=[])
    parser.add_argument("--folder", default="out/learn", help="where worlds and runs go; removed first")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # on a small model, two threads wait for each other
    folder = Path(arguments.folder)
    shutil.rmtree(folder, ignore_errors=True)
    print("| trained | nDCG@10, first stage | reranked | sd | CPU s a seed |\n|---|---:|---:|---:|---:|")
    helped = True
    for name, outcomes in _rows(arguments.compare, arguments.seeds, folder):
        first, after = fmean(o.first for o in outcomes), [o.reranked for o in outcomes]
        spread = f"{stdev(after):.3f}" if len(after) > 1 else "-"
        print(f"| {name} | {first:.3f} | {fmean(after):.3f} | {spread} | {fmean(o.cpu_s for o in outcomes):.0f} |")
        if name == "both stages":
            helped = fmean(after) >= first + GAIN
    if not helped:
        print(f"the model is not {GAIN} better than the first stage")
    return 0 if helped else 1


if __name__ == "__main__":
    sys.exit(main())
