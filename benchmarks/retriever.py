"""Does a retriever learn order? A tiny Video-ColBERT in a world of clips that show one colour, then another.

``python -m benchmarks.retriever`` is one seed; ``--seeds 3`` is the table.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.balls import COLOURS, FRAMES, PIXELS, candidate, write_output
from runners.cli.main import main as hardquery
from schemas.example import Example, Split
from schemas.query import Candidates
from schemas.tables import TABLES, row_of
from schemas.video import Metadata
from tests.support import tiny_clip
from trainer.config.retriever import load_retriever_config
from trainer.data.clips import Clips
from trainer.data.shards import Shards
from trainer.evaluate import mean, per_query
from trainer.retriever.encoder import load_encoder
from trainer.retriever.inputs import clips_of
from trainer.run import train
from transforms.emit.shards import Row
from transforms.engines.bm25 import Bm25
from transforms.storage.trec import read_run

_CLIPS_EACH = 4

Scores = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Case:
    """One row of the table: which levels a model has, and whether its hard negatives are clips turned round."""

    name: str
    levels: str
    turned: bool


_CASES = [
    Case(f"{name}, {'time-reversed' if turned else 'other'} hard negatives", levels, turned)
    for turned in (True, False)
    for name, levels in (
        ("F", "{frames: 1, video: 0}"),
        ("V", "{frames: 0, video: 1}"),
        ("F+V", "{frames: 1, video: 1}"),
    )
]


def main() -> None:
    """Train all cases on every seed, and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--cases", type=int, nargs="*", default=range(len(_CASES)), help="numbers of rows, from 0")
    parser.add_argument("--set", action="append", default=[], dest="settings")
    parser.add_argument("--folder", type=Path, default=Path("out/retriever"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    Clips.__getitem__ = functools.cache(Clips.__getitem__)  # every epoch of so small a world would decode all anew
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(arguments.seeds):
        for number in arguments.cases:
            case = _CASES[number]
            folder = arguments.folder / f"{seed}-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            for name, values in _run(case, folder, seed, arguments.epochs, arguments.settings).items():
                found.setdefault(name, []).append(values)
                print(f"seed {seed}: {_row(name, [values])}", flush=True)
    print(f"| trained, {arguments.seeds} seeds | nDCG@10 | sd | R@1 | sd | CPU s |\n|---|---:|---:|---:|---:|---:|")
    print(*(_row(name, values) for name, values in found.items()), sep="\n")


def _row(name: str, values: Sequence[tuple[float, ...]]) -> str:
    ndcg, recall, spent = zip(*values, strict=True)
    cells = [f"{fmean(v):.3f} | {stdev(v) if len(v) > 1 else 0:.3f}" for v in (ndcg, recall)]
    return f"| {name} | {' | '.join(cells)} | {fmean(spent):.0f} |"


def _run(case: Case, folder: Path, seed: int, epochs: int, settings: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """nDCG@10, R@1 and CPU seconds of a model, and of what its world has for comparison."""
    world, queries, qrels = _write_world(folder / "world", seed, case.turned)
    base = tiny_clip.build(folder / "base", "clip", sorted(queries.values()), seed=seed, factor=1.0)
    config = load_retriever_config(
        "video-colbert",
        [
            f"model={json.dumps(str(base))}",
            "revision=null",
            "precision=fp32",
            "loader_workers=0",
            f"seed={seed}",
            f"retriever.epochs={epochs}",
            "retriever.batch=24",
            "retriever.micro_batch=24",
            f"retriever.frames={FRAMES}",
            "retriever.negatives=1",
            "retriever.query_tokens=8",
            "retriever.learning_rate=5e-3",
            "retriever.backbone_learning_rate=3e-3",
            "retriever.log_steps=50",
            "retriever.save_steps=100000",
            "retriever.validate_steps=100000",
            f"retriever.levels={case.levels}",
            "retriever.temporal={layers: 1, heads: 4, dropout: 0}",
            *settings,
        ],
    )
    start = time.process_time()
    run = train("retriever", config, world, str(folder / "run"))
    spent = time.process_time() - start
    asked = folder / "queries.tsv"
    asked.write_text("".join(f"{query_id}\t{text}\n" for query_id, text in queries.items()))
    held_out = str(folder / "world" / "held-out")
    options = ["--data", held_out, "--model", str(run.root), "--queries", str(asked), "--out", str(folder / "run.trec")]
    if hardquery(["retrieve", *options]):
        raise SystemExit("hardquery retrieve failed")
    found = {case.name: (*_measured(qrels, read_run(str(folder / "run.trec"))), spent)}
    if case.levels == "{frames: 1, video: 0}" and case.turned:
        pooled = _pooled(run.root, held_out, queries)
        found["F's vectors, mean of tokens and of frames"] = (*_measured(qrels, pooled), 0.0)
        found["BM25 over captions"] = (*_measured(qrels, _bm25(held_out, queries)), 0.0)
    return found


def _write_world(folder: Path, seed: int, turned: bool) -> tuple[str, dict[str, str], dict[str, dict[str, int]]]:
    """The output to train on; and of the held-out one, a clip of each kind, the queries and their qrels.

    Every query has one hard negative: its clip played backwards, or one that ends with a third colour. What two clips
    of a kind show is one event, so that neither is taught to be wrong for the other's query.
    """
    rng, pixels = random.Random(f"retriever:{seed}"), np.random.default_rng([seed, 2])
    kinds = list(permutations(COLOURS, 2))
    shown = {f"t{number:04d}": kind for number, kind in enumerate(kinds * _CLIPS_EACH)}
    videos = {video_id: _row_of(video_id, kind, "train", pixels) for video_id, kind in shown.items()}
    examples = []
    for video_id, (first, then) in shown.items():
        if turned:
            negative = f"{video_id}-turned"
            videos[negative] = _told(negative, (then, first), "train", videos[video_id]["frames"][::-1])
        else:
            negative = rng.choice([other for other, kind in shown.items() if kind[0] == first and kind[1] != then])
        group = (candidate(video_id, 1, 1.0, None, rng), candidate(negative, 0, 0.0, None, rng))
        query = f"{first} then {then}"
        examples.append(Example(f"q-{video_id}", query, "train", "human", None, None, (), "", group))
    write_output(str(folder / "train"), [videos[video_id] for video_id in sorted(videos)], examples)
    later = {f"h{number:04d}": kind for number, kind in enumerate(rng.sample(kinds, len(kinds)))}
    rows = [_row_of(video_id, kind, "validation", pixels) for video_id, kind in later.items()]
    write_output(str(folder / "held-out"), rows, [])
    queries = {f"q-{video_id}": f"{first} then {then}" for video_id, (first, then) in later.items()}
    return str(folder / "train"), queries, {f"q-{video_id}": {video_id: 1} for video_id in later}


def _row_of(video_id: str, kind: tuple[str, str], split: Split, pixels: np.random.Generator) -> Row:
    """A clip that shows one colour, then another, under noise."""
    frames = []
    for colour in (name for name in kind for _ in range(FRAMES // 2)):
        noisy = np.array(COLOURS[colour]) + pixels.normal(0, 25, (PIXELS, PIXELS, 3))
        data = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(data, "JPEG", quality=92, subsampling=0)
        frames.append({"bytes": data.getvalue(), "path": None})
    return _told(video_id, kind, split, frames)


def _told(video_id: str, kind: tuple[str, str], split: Split, frames: Sequence[Row]) -> Row:
    """A row with a caption as one writes it who sees single frames: without their order."""
    return dict.fromkeys(TABLES["videos"].schema.names) | {
        "video_id": video_id,
        "split": split,
        "metadata": row_of(Metadata(event=" then ".join(kind))),
        "caption": " and ".join(sorted(kind)),
        "asr": [],
        "ocr": [],
        "engines": [],
        "warnings": [],
        "frame_times_s": [number / 2 for number in range(FRAMES)],
        "frames": list(frames),
    }


def _measured(qrels: Scores, run: Any) -> tuple[float, float]:
    found = per_query(qrels, run)
    first = fmean(bool(candidates) and qrels[q].get(candidates[0].video_id, 0) > 0 for q, candidates in run.items())
    return mean(found["nDCG@10"]), first


def _pooled(run: Path, output: str, queries: Mapping[str, str]) -> dict[str, Candidates]:
    """The cosine of two single vectors: the means of a query's tokens and of a video's frames."""
    encoder = load_encoder(run, "cpu")
    clips = clips_of(Shards(output), FRAMES)
    video_ids = sorted(clips)
    videos = np.stack([encoder.video(list(clips[video_id].frames))[0].mean(0) for video_id in video_ids])
    videos /= np.linalg.norm(videos, axis=1, keepdims=True)
    found = {}
    for query_id, text in queries.items():
        scores = videos @ encoder.query(text).mean(0)
        order = np.argsort(-scores, kind="stable")
        found[query_id] = Candidates((video_ids[place] for place in order), scores[order])
    return found


def _bm25(output: str, queries: Mapping[str, str]) -> dict[str, Any]:
    shards = Shards(output)
    rows = [row for path in shards.paths("videos") for row in shards.columns(path, ("video_id", "caption")).to_pylist()]
    index = Bm25().load().index([(row["video_id"], row["caption"]) for row in rows])
    return {query_id: index.search(query_id, text, len(rows)) for query_id, text in queries.items()}


if __name__ == "__main__":
    main()
