"""What comes before the first step of training on many query groups: CPU and memory.

Run with ``python -m benchmarks.first_step [--groups 500000]``: made shards over 11,000 videos, and a tiny
model. Linux only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.memory import resident_mb

ROOT = Path(__file__).parent.parent

VIDEOS, SHARDS = 11_000, 64
FEW = 1_000
"""Groups that take next to nothing: what they take is that of torch, transformers and the tiny model."""


def write_groups(folder: Path, groups: int) -> Path:
    """An output folder with so many groups to train on, and eight to validate by."""
    from schemas.tables import TABLES
    from tests.support import tiny_training as tiny

    rows = tiny.tiny_tables()
    shown, ranking = rows["videos"]["part"], rows["ranking"]["validation"]
    ids = [f"v{number:06d}" for number in range(VIDEOS)]
    rows["videos"]["part"] = [{**shown[n % len(shown)], "video_id": name} for n, name in enumerate(ids)]
    rows["ranking"] = {"validation": [_group(ranking[n], n, ids) for n in range(8)], "train": []}
    rows["perception"] = {"train": [], "validation": []}
    tiny.write_output(folder, rows, SHARDS)

    def train(shard: int) -> Iterator[dict[str, object]]:
        return (_group(ranking[n % 8], n, ids) for n in range(shard, groups, SHARDS))

    for shard in range(SHARDS):
        tiny.write_shard(str(folder / TABLES["ranking"].shard_path("train", shard, SHARDS)), "ranking", train(shard))
    return folder


def _group(like: dict[str, object], number: int, ids: list[str]) -> dict[str, object]:
    candidates = like["candidates"]
    assert isinstance(candidates, list)
    named = [{**one, "video_id": ids[(number * 7 + at * 1013) % VIDEOS]} for at, one in enumerate(candidates)]
    return {**like, "query_id": f"q-{number:016x}", "query": f"{like['query']} number {number}", "candidates": named}


def own_mb(pid: int) -> float:
    """What of a process's memory is its own, and no file's: pages of libraries are everybody's, and can be dropped."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), 0.0)


def first_step(folder: Path, data: Path) -> tuple[float, float, float, float]:
    """CPU seconds and wall seconds until the first step is noted, and the most memory until then, in MB: all of it, and
    what is the process's own.
    """
    from tests.support import tiny_training as tiny

    config = tiny.write_config(folder / "config.yaml", tiny.tiny_config(tiny.tiny_model(folder / "model")))
    run = folder / "run"
    command = [sys.executable, "-m", "runners", "train", "ranking", str(config)]
    command += ["--data", str(data), "--output", str(run)]
    start, peak, own = time.monotonic(), 0.0, 0.0
    child = subprocess.Popen(command, cwd=ROOT)
    while child.poll() is None and not (run / "metrics.jsonl").exists():
        peak, own = max(peak, resident_mb(child.pid)), max(own, own_mb(child.pid))
        time.sleep(0.1)
    if child.poll() is not None:
        raise SystemExit(f"training ended with {child.returncode} before its first step")
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    child.kill()
    child.wait()
    return cpu_s, time.monotonic() - start, peak, own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=500_000)
    arguments = parser.parse_args()
    print("| query groups | CPU s | wall s | peak MB | of it no file's |\n|---:|---:|---:|---:|---:|")
    for groups in (FEW, arguments.groups):
        with tempfile.TemporaryDirectory(prefix="first-step-") as name:
            folder = Path(name)
            data = write_groups(folder / "out", groups)
            cpu_s, wall_s, peak, own = first_step(folder, data)
        print(f"| {groups:,} | {cpu_s:.1f} | {wall_s:.1f} | {peak:,.0f} | {own:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
