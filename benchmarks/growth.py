"""How a run grows with its corpus: CPU, memory and disk at several sizes, with engines that cost nothing.

Run with ``python -m benchmarks.growth [N ...] [--folder DIR]``: a run, the same again, other thresholds, and all that
is asked of an output, each in a process of its own; then slopes, and what they come to at 110,000 videos. What was
measured before in the same folder is not measured again.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.memory import family, resident_mb
from benchmarks.simulated import JUDGED, QUERIES, SETTINGS, make_corpus, register

ROOT = Path(__file__).parent.parent
LOOK_S = 0.2
FULL, FULL_PAIRS = 110_000, 20_000_000

Figures = dict[str, float]


def commands(folder: Path) -> dict[str, list[str]]:
    """What is measured, by name, in order."""
    sets = [argument for setting in SETTINGS for argument in ("--set", setting)]
    common = ["--input", str(folder / "manifest.jsonl"), "--cache", str(folder / "cache"), "--workers", "1", *sets]
    out, other = str(folder / "out"), str(folder / "other")
    run, alpha = ["run", "demo", *common], ["--set", "curate.alpha1=-7.0"]
    judge = ["plan", "demo", *common, "--output", out, "--set", "judge.evidence={caption: 400}"]
    return {
        "first run": [*run, "--output", out],
        "the same again": [*run, "--output", out],
        "again, forced": [*run, "--output", out, "--force"],
        "other alpha1": [*run, "--output", other, *alpha],
        "plan": ["plan", "demo", *common, "--output", out],
        "plan, forced": ["plan", "demo", *common, "--output", out, "--force"],
        "plan, judge changed": judge,
        "plan, more candidates": ["plan", "demo", *common, "--output", out, "--set", f"mine.candidates={2 * JUDGED}"],
        "plan, judge changed, whole": [*judge, "--whole"],
        "verify": ["verify", out],
        "diff": ["diff", out, other],
        "explain": ["explain", out, "0000007"],
        "cache stats": ["cache", "stats", "--cache", str(folder / "cache")],
        "export rankvideo": ["export", "rankvideo", out, "--to", str(folder / "exported")],
    }


def measure(command: Sequence[str], log: Path) -> Figures:
    """CPU seconds, wall seconds, and the most memory that all processes of a command took together, in MB."""
    start = time.monotonic()
    with log.open("w") as said:
        arguments = [sys.executable, "-m", "benchmarks.growth", "--only", *command]
        child = subprocess.Popen(arguments, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        peak = 0.0
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            peak = max(peak, sum(map(resident_mb, family(child.pid))))
            time.sleep(LOOK_S)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command[:2])} ended with {child.returncode}: see {log}")
    return {"cpu_s": usage.ru_utime + usage.ru_stime, "peak_mb": peak, "wall_s": time.monotonic() - start}


def size_mb(folder: Path) -> float:
    """What all files of a folder hold."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def grow(folder: Path, videos: int, names: Sequence[str]) -> dict[str, Figures]:
    """Measure what was not measured yet of a corpus of this size."""
    kept = folder / "figures.json"
    figures: dict[str, Figures] = json.loads(kept.read_text()) if kept.exists() else {}
    if not (folder / "manifest.jsonl").exists():
        make_corpus(folder, videos)
    for name, command in commands(folder).items():
        if name in figures or (names and name not in names):
            continue
        figures[name] = measure(command, folder / f"{name.replace(' ', '-')}.log")
        if name == "first run":
            manifest = json.loads((folder / "out" / "manifest.json").read_text())
            figures["made"] = {"pairs": float(sum(file["rows"] for file in manifest["files"] if is_pairs(file)))}
            figures["made"]["journal_mb"] = size_mb(folder / "cache" / "journal")
            figures["made"]["shards_mb"] = size_mb(folder / "out")
        print(f"{videos} {name}: {figures[name]}", file=sys.stderr, flush=True)
        kept.write_text(json.dumps(figures))
    return figures


def is_pairs(file: dict[str, object]) -> bool:
    """Whether a file of a manifest holds judged pairs."""
    return str(file["path"]).startswith("judgements/")


def slope(found: Sequence[tuple[int, float]]) -> float:
    """Of the straight line between the two largest sizes, both axes logarithmic; NaN where there is one."""
    if len(found) < 2:
        return math.nan
    (n, low), (more, high) = sorted(found)[-2:]
    return math.log(high / low) / math.log(more / n)


def print_tables(sizes: dict[int, dict[str, Figures]]) -> None:
    """What was measured, how it grows, and what it comes to."""
    names = [name for name in commands(Path()) if any(name in figures for figures in sizes.values())]
    print(f"| videos | {' | '.join(names)} | journal MB | output MB |\n|---:|{'---|' * len(names)}---:|---:|")
    for videos, figures in sorted(sizes.items()):
        cells = [f"{figures[n]['cpu_s']:.1f} / {figures[n]['peak_mb']:,.0f}" if n in figures else "" for n in names]
        made = figures["made"]
        print(f"| {videos:,} | {' | '.join(cells)} | {made['journal_mb']:,.0f} | {made['shards_mb']:,.0f} |")

    def of(name: str, unit: str) -> list[tuple[int, float]]:
        return [(videos, figures[name][unit]) for videos, figures in sizes.items() if name in figures]

    slopes = [f"{slope(of(name, 'cpu_s')):.2f} / {slope(of(name, 'peak_mb')):.2f}" for name in names]
    sizes_slopes = [f"{slope(of('made', unit)):.2f}" for unit in ("journal_mb", "shards_mb")]
    print(f"| slope | {' | '.join([*slopes, *sizes_slopes])} |")
    largest = max(sizes)
    figures = sizes[largest]
    made, first = figures["made"], figures["first run"]
    print(f"\nper judged pair, all stages: {1e6 * first['cpu_s'] / made['pairs']:.0f} us of CPU")
    for name in ("the same again", "again, forced"):
        if name in figures:
            print(f"{name}: {100 * figures[name]['cpu_s'] / first['cpu_s']:.1f} % of the first run's CPU")

    def at(name: str, unit: str, times: float) -> float:
        rising = slope(of(name, unit))
        return figures[name][unit] * times ** (1.0 if math.isnan(rising) else rising)

    for what, times in (
        (f"{FULL:,} videos", FULL / largest),
        (f"{FULL_PAIRS:,} pairs, by pairs", FULL_PAIRS / made["pairs"]),
    ):
        values = (at("first run", "cpu_s", times) / 3600, at("first run", "peak_mb", times) / 1e3)
        disk = (made["journal_mb"] * times / 1e3, made["shards_mb"] * times / 1e3)
        print("{}: {:.1f} CPU h, {:.1f} GB of memory, journal {:.0f} GB, output {:.0f} GB".format(what, *values, *disk))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=int, nargs="*", default=[300, 1000, 3000])
    parser.add_argument("--folder", type=Path, help="where corpora, caches and outputs are kept")
    parser.add_argument("--measure", action="append", default=[], choices=list(commands(Path())))
    arguments = parser.parse_args()
    print(f"{QUERIES} queries a video, {JUDGED} pairs judged a query; CPU s / peak MB of all processes\n")
    with tempfile.TemporaryDirectory(prefix="growth-") as name:
        folder = arguments.folder or Path(name)
        sizes = {n: grow(folder / str(n), n, arguments.measure) for n in arguments.videos}
        print_tables(sizes)


def only(command: list[str]) -> int:
    """One command of hardquery, in this process, with the simulated engines."""
    from runners.cli import main as cli

    gc.set_threshold(*cli.SELDOM)
    register()
    run: Callable[[list[str]], int] = cli.main
    return run(command)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        sys.exit(only(sys.argv[2:]))
    main()
