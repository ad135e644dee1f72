"""What a plan foretells of an input, and what then comes of it: before any of it is done, and after a few videos.

Run with ``python -m benchmarks.foresee [--input FOLDER | --simulated N] [--limit N]``; by default the sample corpus.
The demo recipe, or that of benchmarks/growth.py for simulated videos: ``plan``, ``run --limit N``, ``plan``, ``run``.
It fails unless every step comes to what the second plan foretold, whose ranges must reach to at most twice their least.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.simulated import SETTINGS, make_corpus
from pipeline.outputs.manifest import read_manifest

ROOT = Path(__file__).parent.parent
Ranges = Mapping[str, tuple[int, int]]


class Job:
    """The same command, planned and run, in a folder of its own."""

    def __init__(self, folder: Path, source: Path, settings: tuple[str, ...]) -> None:
        self._folder = folder
        sets = (argument for setting in settings for argument in ("--set", setting))
        self._given = ["demo", "--input", str(source), "--cache", str(folder / "cache"), *sets]

    def plan(self) -> Ranges:
        """The least and the most results of each step that a run would make."""
        said = self._hardquery("plan", "--output", str(self._folder / "all"), "--json")
        return {step["step"]: (step["least"], step["most"]) for step in json.loads(said)["steps"]}

    def run(self, name: str, *options: str) -> dict[str, int]:
        """Run into the output ``name``; the results of each step that were made, or failed to be."""
        output = self._folder / name
        self._hardquery("run", "--output", str(output), "-q", *options)
        work = read_manifest(str(output)).work
        return {step: counts.get("run", 0) + counts.get("failed", 0) for step, counts in work.items()}

    def _hardquery(self, word: str, *options: str) -> str:
        # As benchmarks.growth starts it, which knows the simulated engines.
        command = [sys.executable, "-m", "benchmarks.growth", "--only", word, *self._given, *options]
        ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if ended.returncode:
            raise SystemExit(f"{word} ended with {ended.returncode}")
        return ended.stdout


def came_as_foretold(foretold: Ranges, came: Mapping[str, int]) -> bool:
    """Whether each step came to what lies in its range, and no range reaches beyond twice its least."""
    return all(least <= came.get(step, 0) <= most <= max(1, 2 * least) for step, (least, most) in foretold.items())


def table(limit: int, cold: Ranges, warm: Ranges, first: Mapping[str, int], rest: Mapping[str, int]) -> str:
    """A row a step."""
    lines = [f"| step | cold | came | after {limit} videos | came of the others |", "|---|---:|---:|---:|---:|"]
    for step in cold:
        cells = [_range(*cold[step]), f"{first.get(step, 0) + rest.get(step, 0):,}"]
        cells += [_range(*warm[step]), f"{rest.get(step, 0):,}"]
        lines.append(f"| `{step}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,}-{most:,}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--input", type=Path, default=ROOT / "samples" / "manifest.jsonl", help="as of hardquery run")
    which.add_argument("--simulated", type=int, metavar="N", help="so many videos of benchmarks/simulated.py")
    parser.add_argument("--limit", type=int, default=12, help="videos that are done before the second plan (12)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="foresee-") as name:
        folder = Path(name)
        source = make_corpus(folder, given.simulated) if given.simulated else given.input.resolve()
        job = Job(folder, source, SETTINGS if given.simulated else ())
        cold = job.plan()
        first = job.run("some", "--limit", str(given.limit))
        warm = job.plan()
        rest = job.run("all")
    print(table(given.limit, cold, warm, first, rest))
    holds = came_as_foretold(warm, rest)
    print(f"\nThe second plan {'holds' if holds else 'does not hold'}.")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
