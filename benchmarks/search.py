"""What exact search costs: candidates of single vectors, and of late interaction, against the bare matrix product.

Run with ``python -m benchmarks.search`` (about 3 minutes on an idle machine, Linux only). One thread, CPU seconds.
50,000 queries x 110,000 videos x 1024 dimensions are measured on a slice of the queries, with all the videos: queries
are searched in batches of 256, each from nothing, so the rest costs the same again. What is timed is the whole of
``search_many`` on an opened pack, candidates of text ids included. The bare product is of the same arrays in the same
type, already on the grid, taken in turns with ours in one process. faiss is measured where it can be imported; it is
no dependency:

    pip install --no-deps --target faiss faiss-cpu==1.15.1
    PYTHONPATH=faiss python -m benchmarks.search
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

VIDEOS, DIMS, QUERIES, ALL_QUERIES, DEPTH = 110_000, 1024, 512, 50_000, 1000
BATCH = 256  # queries a call, as mining has them
ROUNDS = 3
# name, levels of a video, dimensions, videos
LATE = (
    ("16 vectors", (16,), 128, 2000),
    ("64 vectors", (64,), 128, 1000),
    ("12 + 14 vectors (Video-ColBERT)", (12, 14), 512, 500),
)
ASKED = 32  # vectors of a query
STAGED = 20_000  # videos, of 16 vectors


def some_units(count: int, dims: int, seed: int) -> NDArray[np.float32]:
    """Random vectors of length 1."""
    vectors = np.random.default_rng(seed).standard_normal((count, dims), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def in_turns(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """CPU seconds of the quickest round of each, after one that is not counted: others on the machine slow some."""
    spent = dict.fromkeys(works, float("inf"))
    for turn in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            if turn:
                spent[name] = min(spent[name], time.process_time() - start)
    return spent


def write_singles(path: str) -> float:
    """A pack of all videos; returns the CPU seconds that it took."""
    from transforms.protocols.embed import Embedding
    from transforms.search.pack import write_pack

    def entries() -> Iterator[tuple[str, Embedding]]:
        for start in range(0, VIDEOS, 10_000):
            vectors = some_units(min(10_000, VIDEOS - start), DIMS, start)
            for row in range(len(vectors)):
                yield f"v-{start + row:016x}", Embedding(vectors[row : row + 1], (1,))

    start = time.process_time()
    write_pack(path, entries())
    return time.process_time() - start


def resident_mb(line: str) -> float:
    """A line of what Linux says of this process's memory."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(text for text in status if text.startswith(line)).split()[1]) / 1024


def single(pack_path: str, grid: str) -> dict[str, float]:
    """Search and bare product, CPU seconds of a query each; and peak memory, but for the mapped file."""
    from transforms.protocols.embed import Embedding
    from transforms.search.grid import on_grid
    from transforms.search.pack import open_pack
    from transforms.search.search import SearchOptions, search_many

    pack = open_pack(pack_path)
    vectors = some_units(QUERIES, DIMS, 1)
    batches = [vectors[start : start + BATCH] for start in range(0, QUERIES, BATCH)]
    options = SearchOptions(grid=grid)  # type: ignore[arg-type]

    def search() -> None:
        for batch in batches:
            search_many(pack, [Embedding(row[None], (1,)) for row in batch], DEPTH, options)

    search()
    peak_mb = resident_mb("VmHWM") - resident_mb("RssFile")
    placed = on_grid(pack.vectors, grid)  # type: ignore[arg-type]
    asked = [on_grid(batch, grid) for batch in batches]  # type: ignore[arg-type]
    out = np.empty((BATCH, VIDEOS), placed.dtype)
    spent = in_turns({"ours": search, "bare": lambda: [np.matmul(batch, placed.T, out=out) for batch in asked]})
    return {name: value / QUERIES for name, value in spent.items()} | {"peak_mb": peak_mb}


def with_faiss(pack_path: str, _: str) -> dict[str, float]:
    """The same by faiss, whose bare product is numpy's in fp32."""
    import faiss

    from transforms.search.pack import open_pack

    faiss.omp_set_num_threads(1)
    vectors = open_pack(pack_path).vectors
    asked = some_units(QUERIES, DIMS, 1)
    index = faiss.IndexFlatIP(DIMS)
    index.add(np.ascontiguousarray(vectors))
    batches = [asked[start : start + BATCH] for start in range(0, QUERIES, BATCH)]
    for batch in batches:
        index.search(batch, DEPTH)
    peak_mb = resident_mb("VmHWM") - resident_mb("RssFile")
    out = np.empty((BATCH, VIDEOS), np.float32)
    spent = in_turns(
        {
            "ours": lambda: [index.search(batch, DEPTH) for batch in batches],
            "bare": lambda: [np.matmul(batch, vectors.T, out=out) for batch in batches],
        }
    )
    return {name: value / QUERIES for name, value in spent.items()} | {"peak_mb": peak_mb}


def write_tokens(path: str, videos: int, levels: tuple[int, ...], dims: int) -> None:
    """A pack of videos of several vectors."""
    from transforms.protocols.embed import Embedding
    from transforms.search.pack import write_pack

    count = sum(levels)
    write_pack(path, ((f"v{row:07}", Embedding(some_units(count, dims, row), levels)) for row in range(videos)))


def late(folder: str, at: str) -> dict[str, float]:
    """MeanMaxSim of 64 queries with every video, and the bare product of all their vectors: CPU seconds a pair."""
    from transforms.search.late_interaction import mean_max_sim
    from transforms.search.pack import open_pack

    _, levels, dims, videos = LATE[int(at)]
    path = str(Path(folder, f"late{at}.pack"))
    write_tokens(path, videos, levels, dims)
    tokens = open_pack(path).tokens
    queries = [some_units(ASKED, dims, 10**6 + number) for number in range(64)]
    floats = tokens.codes.astype(np.float32)
    columns = [np.ascontiguousarray(np.concatenate(queries[start : start + 32]).T) for start in range(0, 64, 32)]

    def bare() -> None:
        for wide in columns:
            for start in range(0, len(floats), 512):
                floats[start : start + 512] @ wide

    spent = in_turns({"ours": lambda: mean_max_sim(tokens, queries), "bare": bare})
    return {name: value / (64 * videos) for name, value in spent.items()}


def staged(folder: str, _: str) -> dict[str, float]:
    """Two stages against one: CPU seconds a query."""
    from transforms.protocols.embed import Embedding
    from transforms.search.pack import open_pack
    from transforms.search.search import SearchOptions, search_many

    path = str(Path(folder, "staged.pack"))
    write_tokens(path, STAGED, (16,), 128)
    pack = open_pack(path)
    queries = [Embedding(some_units(ASKED, 128, 10**6 + number), (ASKED,)) for number in range(32)]
    two, one = SearchOptions(exhaustive_below=0), SearchOptions(exhaustive_below=STAGED + 1)
    spent = in_turns(
        {
            "ours": lambda: search_many(pack, queries, DEPTH, two),
            "bare": lambda: search_many(pack, queries, DEPTH, one),
        },
        rounds=1,
    )
    return {name: value / len(queries) for name, value in spent.items()}


MEASURES: dict[str, Callable[[str, str], dict[str, float]]] = {
    "single": single,
    "faiss": with_faiss,
    "late": late,
    "staged": staged,
}


def measured(measure: str, path: str, detail: str) -> dict[str, Any]:
    """What a process of its own, with one thread, measures."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.search", measure, path, detail]
    result: dict[str, Any] = json.loads(subprocess.run(command, env=env, check=True, stdout=subprocess.PIPE).stdout)
    return result


def main() -> None:
    """Print two Markdown tables."""
    with tempfile.TemporaryDirectory() as folder:
        pack = str(Path(folder, "single.pack"))
        took_s = write_singles(pack)
        print(
            f"The pack: {os.path.getsize(pack) / 2**20:.0f} MB, written in {took_s:.0f} CPU s, vectors made included.\n"
        )
        print(f"| single vectors | ms a query | bare product, ms | ratio | {ALL_QUERIES} queries, CPU s | peak MB |")
        print("|---|---:|---:|---:|---:|---:|")
        rows = [("grid64 (ours)", "single", "grid64"), ("grid32 (ours)", "single", "grid32")]
        if importlib.util.find_spec("faiss"):
            rows.append(("faiss IndexFlatIP, fp32", "faiss", ""))
        for name, measure, detail in rows:
            found = measured(measure, pack, detail)
            print(
                f"| {name} | {found['ours'] * 1e3:.2f} | {found['bare'] * 1e3:.2f} "
                f"| {found['ours'] / found['bare']:.2f} | {found['ours'] * ALL_QUERIES:.0f} | {found['peak_mb']:.0f} |",
                flush=True,
            )
        if len(rows) < 3:
            print("\nfaiss is not installed, and was not measured: see benchmarks/search.py.")
        print("\n| late interaction, 32 vectors a query | us a pair | bare product, us | ratio | pairs a CPU s |")
        print("|---|---:|---:|---:|---:|")
        for at, (name, _, dims, _) in enumerate(LATE):
            found = measured("late", folder, str(at))
            print(
                f"| {name} of {dims} | {found['ours'] * 1e6:.2f} | {found['bare'] * 1e6:.2f} "
                f"| {found['ours'] / found['bare']:.2f} | {1 / found['ours']:.0f} |",
                flush=True,
            )
        found = measured("staged", folder, "")
        print(
            f"\nTwo stages, {STAGED} videos of 16 vectors of 128: {found['ours'] * 1e3:.0f} ms a query; all of them in "
            f"full: {found['bare'] * 1e3:.0f} ms."
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(MEASURES[sys.argv[1]](*sys.argv[2:])))
    else:
        main()
