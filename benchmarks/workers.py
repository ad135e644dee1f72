"""Whether a run with many workers on a busy machine ends well, and writes the same bytes each time.

Run with ``python -m benchmarks.workers``. The demo recipe on the sample corpus with 1,500 made-up queries by people,
each of which is judged anew with its candidates: extraction and what the teacher wrote are in a cache that a first run
fills, of which each later run has a copy. Its output is verified, and every shard and TREC file of it compared with
those of the first run of all, by their hashes. For load, start busy loops beside it; ``--busy`` does, in a session of
their own, so that a scheduler that shares out a machine by sessions leaves the runs their part.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.again import ROOT, hardquery
from pipeline.outputs.manifest import read_manifest

SAMPLES = ROOT / "samples"
WORDS = (4, 9)


@dataclass(frozen=True)
class Ran:
    """One run: its exit code and that of ``verify``, the hash of every file that must not differ, and its time."""

    code: int
    verified: int
    hashes: dict[str, str]
    wall_s: float


def make_queries(folder: Path, number: int) -> list[str]:
    """Queries of a few words of what is known of a video, which is their one answer; the arguments that name them."""
    chance = random.Random(0)
    videos = [json.loads(line) for line in (SAMPLES / "manifest.jsonl").read_text().splitlines()]
    texts = {video["video_id"]: f"{video.get('title', '')} {video.get('description', '')}".split() for video in videos}
    known = {video_id: words for video_id, words in texts.items() if len(words) >= WORDS[0]}
    queries, qrels = folder / "queries.tsv", folder / "qrels.trec"
    with open(queries, "w") as said, open(qrels, "w") as relevant:
        for n in range(number):
            video_id = chance.choice(sorted(known))
            words = chance.sample(known[video_id], min(len(known[video_id]), chance.randint(*WORDS)))
            said.write(f"h{n}\t{' '.join(words).lower()} {n}\n")
            relevant.write(f"h{n} 0 {video_id} 1\n")
    return ["--queries", str(queries), "--qrels", str(qrels)]


def run(folder: Path, name: str, *more: str) -> Ran:
    """Run to the end into the output ``name``, then verify it and remove it."""
    output = folder / name
    start_s = time.monotonic()
    inputs = ["--input", str(SAMPLES / "manifest.jsonl"), "--output", str(output)]
    code = hardquery("run", "demo", *inputs, *more).returncode
    wall_s = time.monotonic() - start_s
    if code:
        return Ran(code, -1, {}, wall_s)
    verified = hardquery("verify", str(output)).returncode
    written = read_manifest(str(output)).files
    hashes = {file.path: file.sha256 for file in written if file.path.endswith((".parquet", ".trec"))}
    shutil.rmtree(output)
    return Ran(code, verified, hashes, wall_s)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes beside, that do nothing but take a processor each."""
    script = f"for n in $(seq {loops}); do while :; do :; done & done; wait"
    with subprocess.Popen(["bash", "-c", script], start_new_session=True) as beside:
        try:
            yield
        finally:
            os.killpg(beside.pid, signal.SIGKILL)


def row(workers: int, runs: Sequence[Ran], expected: dict[str, str]) -> str:
    """A line of the table."""
    well, verified = sum(ran.code == 0 for ran in runs), sum(ran.verified == 0 for ran in runs)
    same = sum(ran.hashes == expected for ran in runs)
    slowest_s = max(ran.wall_s for ran in runs)
    return f"| {workers} | {len(runs)} | {well} | {verified} | {same} | {len(expected)} | {slowest_s:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--queries", type=int, default=1500)
    parser.add_argument("--busy", type=int, default=0, help="busy loops beside the runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, busy(arguments.busy):
        folder = Path(name)
        queries = make_queries(folder, arguments.queries)
        ready = run(folder, "ready", "--cache", str(folder / "ready-cache"), "--workers", "2")
        if ready.code:
            raise SystemExit(f"the first run ended with {ready.code}")
        expected: dict[str, str] = {}
        print("| workers | runs | exit code 0 | verified | same bytes | files | slowest s |")
        print("|---:|---:|---:|---:|---:|---:|---:|")
        for workers in arguments.workers:
            runs = []
            for number in range(arguments.runs):
                cache = folder / f"cache-{workers}-{number}"
                shutil.copytree(folder / "ready-cache", cache)
                runs.append(run(folder, "out", *queries, "--cache", str(cache), "--workers", str(workers)))
                shutil.rmtree(cache)
                expected = expected or runs[-1].hashes
                print(f"{workers} workers, run {number + 1}: {runs[-1].wall_s:.0f} s", file=sys.stderr, flush=True)
            print(row(workers, runs, expected), flush=True)


if __name__ == "__main__":
    main()
