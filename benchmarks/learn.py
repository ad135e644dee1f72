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
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from benchmarks.balls import FRAMES, PIXELS, World, existing_world, write_world
from runners.quiet import hush_warnings
from tests.support import tiny_vlm
from trainer.config.config import Stage, TrainConfig, load_config
from trainer.evaluate import mean, per_query
from trainer.rerank import load_reranker, rerank
from trainer.run import train
from transforms.storage.trec import read_qrels, read_queries, read_run, run_lines, write_lines

PERCEPTION_EPOCHS, RANKING_EPOCHS = 6, 2
NOISE = 0.09
GAIN = 0.03
"""By so much nDCG@10 must exceed the first stage's, or the command fails."""

_BOTH: tuple[Stage, ...] = ("perception", "ranking")
_LOSSES = {
    "P": ("ranking.losses.teacher.weight=0", "ranking.losses.pointwise.weight=0"),
    "P+PT": ("ranking.losses.teacher.weight=0",),
    "P+PT+T": (),
}


@dataclass(frozen=True)
class Case:
    """One row of the table: what is trained, on labels of which so many are wrong, with which settings."""

    name: str
    stages: tuple[Stage, ...] = _BOTH
    flipped: float = 0.0
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """nDCG@10 of the first stage's run, and of the run in the model's order; CPU seconds of training and scoring."""

    first: float
    reranked: float
    cpu_s: float


def learn(folder: Path, case: Case, seed: int) -> Outcome:
    """Train a model from random weights and rerank the held-out queries with it.

    Captions do not depend on labels or losses: cases of one seed share their first stage.
    """
    start = time.process_time()
    clean, world = (_world(folder, seed, flipped) for flipped in (0.0, case.flipped))
    model = folder / f"base-{seed}"
    if not model.is_dir():
        tiny_model(model, read_queries(clean.queries).values(), seed)
    at = folder / f"{case.name.replace(' ', '-').replace('%', '').replace(',', '')}-{seed}"
    for stage in case.stages:
        data, output = (clean, folder / f"perception-{seed}") if stage == "perception" else (world, at)
        train(stage, tiny_config(model, seed, case.settings if stage == "ranking" else ()), data.train, str(output))
        model = output
        _say(f"{case.name}, seed {seed}, {stage}: {_last_metrics(output)}")
    run = read_run(f"{world.held_out}/run.trec")
    reranker = load_reranker(model, world.held_out, "cpu")
    at.mkdir(exist_ok=True)
    reranked = rerank(reranker, run, read_queries(world.queries), at / "scores.jsonl")
    write_lines(str(at / "reranked.trec"), run_lines(reranked, "model"))
    qrels = read_qrels(f"{world.held_out}/qrels.trec")
    first, after = (mean(per_query(qrels, one)["nDCG@10"]) for one in (run, read_run(str(at / "reranked.trec"))))
    return Outcome(first, after, time.process_time() - start)


def _world(folder: Path, seed: int, flipped: float) -> World:
    at = folder / f"world-{seed}{'-flipped' if flipped else ''}"
    return existing_world(at) if at.is_dir() else write_world(at, seed, flipped)


def tiny_model(folder: Path, queries: Iterable[str], seed: int, **sizes: Any) -> Path:
    """A model of random weights, a million unless ``sizes`` says other; its tokenizer knows the queries' words."""
    config = tiny_config(folder, seed, ())
    prompts = [config.perception.prompt, config.ranking.prompt]
    texts = [text for prompt in prompts for text in (prompt.system, prompt.user)] * 20
    texts += list(queries) * 20
    sizes = {"hidden": 128, "layers": 4, "heads": 4, "vision": 64, "vision_layers": 2, "init": 0.07} | sizes
    return tiny_vlm.build(folder, "qwen3_vl", texts, seed=seed, **sizes)


def tiny_config(model: Path, seed: int, settings: Sequence[str]) -> TrainConfig:
    """The preset `paper`, with what a model of a million weights needs: all of them trained, and larger steps."""
    own = {
        "model": json.dumps(str(model)),
        "lora": "null",
        "precision": "fp32",
        "activation_checkpointing": "false",
        "loader_workers": "0",
        "max_pixels": PIXELS**2,
        "seed": seed,
        "perception.prompt": "{system: Describe., user: Caption this video., reply: '{caption}'}",
        "perception.epochs": PERCEPTION_EPOCHS,
        "perception.batch": 24,
        "perception.micro_batch": 24,
        "perception.learning_rate": 2e-3,
        "perception.adam_beta2": 0.98,
        "perception.frames": FRAMES,
        "perception.validate_steps": 100_000,
        "ranking.prompt": '{system: Judge., user: "Query: {query}\\nIs the video relevant?", reply: <answer>}',
        "ranking.epochs": RANKING_EPOCHS,
        "ranking.batch": 6,
        "ranking.micro_batch": 6,
        "ranking.negatives": 3,
        "ranking.learning_rate": 7e-4,
        "ranking.adam_beta2": 0.98,
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


def _cases(compare: Sequence[str]) -> Iterator[Case]:
    yield Case("both stages")
    if "stages" in compare:
        yield Case("stage 1 only", ("perception",))
        yield Case("stage 2 only", ("ranking",))
    if "losses" in compare:
        for flipped in (NOISE, 0.0):
            labels = f"{flipped:.0%} wrong labels" if flipped else "clean labels"
            # With clean labels, all terms together are the first row.
            chosen = list(_LOSSES) if flipped else list(_LOSSES)[:-1]
            yield from (Case(f"both, {terms}, {labels}", _BOTH, flipped, _LOSSES[terms]) for terms in chosen)


def main() -> int:
    """Print the table; exit code 1 if training both stages does not help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--compare", nargs="*", choices=("stages", "losses"), default=[])
    parser.add_argument("--folder", default="out/learn", help="where worlds and runs go; removed first")
    arguments = parser.parse_args()
    hush_warnings()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # on a small model, two threads wait for each other
    folder = Path(arguments.folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    header = "| trained | nDCG@10, first stage | reranked | sd | CPU s a seed |\n|---|---:|---:|---:|---:|\n"
    both: tuple[float, float] | None = None
    for case in _cases(arguments.compare):
        outcomes = [learn(folder, case, seed) for seed in range(arguments.seeds)]
        first, after = fmean(o.first for o in outcomes), [o.reranked for o in outcomes]
        spread = f"{stdev(after):.3f}" if len(after) > 1 else "-"
        cpu_s = fmean(outcome.cpu_s for outcome in outcomes)
        print(f"{header}| {case.name} | {first:.3f} | {fmean(after):.3f} | {spread} | {cpu_s:.0f} |", flush=True)
        header = ""  # above the first row, which comes minutes after the start
        both = both or (first, fmean(after))
    assert both is not None
    print(f"\n{ending(*both)}")
    return 0 if helped(*both) else 1


def helped(first: float, after: float) -> bool:
    """Whether both stages together are as much better than the first stage as they have to be."""
    return after >= first + GAIN


def ending(first: float, after: float) -> str:
    """What the table says, in words, and what to do next."""
    said = f"nDCG@10 of queries that it has not seen: {first:.3f} as the first stage has them, {after:.3f} reranked"
    if not helped(first, after):
        return f"It did not work: {said}, which is not {GAIN} better."
    return (
        f"It worked: {said}. To train on an output of your own, with a GPU:\n"
        "hardquery train perception paper --data OUT --output runs/perception\n"
        "hardquery train ranking paper --data OUT --output runs/ranking --set model=runs/perception"
    )


if __name__ == "__main__":
    sys.exit(main())
