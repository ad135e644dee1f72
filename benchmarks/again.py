"""What running again costs: with nothing changed, by force, with another judge prompt, and after a budget ran out.

Run with ``python -m benchmarks.again``. The demo recipe on the sample corpus, each run a process of its own: first from
nothing, then again into the same output, which is left as it is, then by force, of cached results, then with a judge
prompt that has one more sentence (after asking ``plan`` what that will do), and, on another cache, with half the calls
as its budget, then without one.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMAND = [sys.executable, "-m", "runners"]
CALLS = ("write", "judge", "caption")
ENGINES = ("decode", "asr", "ocr")


@dataclass(frozen=True)
class Ran:
    """One run: its exit code, its times, what work it did by step, and the hash of every shard and TREC file.

    ``cpu_s`` is of all its processes.
    """

    code: int
    wall_s: float
    cpu_s: float
    work: Mapping[str, Mapping[str, int]]
    hashes: Mapping[str, str]

    def done(self, steps: tuple[str, ...], outcome: str = "run") -> int:
        """Results of these steps with this outcome."""
        return sum(self.work.get(step, {}).get(outcome, 0) for step in steps)


def arguments(output: Path, *more: str) -> list[str]:
    """What ``run`` and ``plan`` are told."""
    samples = ROOT / "samples"
    given = ["--queries", str(samples / "queries.tsv"), "--qrels", str(samples / "qrels.trec")]
    return ["demo", "--input", str(samples / "manifest.jsonl"), "--output", str(output), *given, *more]


def run(output: Path, *more: str) -> Ran:
    """Run to the end."""
    start, cpu_before_s = time.monotonic(), cpu_of_children_s()
    code = hardquery("run", *arguments(output, *more)).returncode
    wall_s, cpu_s = time.monotonic() - start, cpu_of_children_s() - cpu_before_s
    manifest = json.loads((output / "manifest.json").read_text())
    files = sorted(path for path in output.rglob("*") if path.suffix in (".parquet", ".trec"))
    hashes = {str(path.relative_to(output)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    return Ran(code, wall_s, cpu_s, manifest["work"], hashes)


def cpu_of_children_s() -> float:
    """User and system time of the processes that have ended, and of those that they waited for."""
    times = os.times()
    return times.children_user + times.children_system


def hardquery(*words: str) -> subprocess.CompletedProcess[str]:
    """Any other command."""
    return subprocess.run([*COMMAND, *words], cwd=ROOT, capture_output=True, text=True, check=False)


def row(name: str, ran: Ran, first: Ran, reference: Ran) -> str:
    """A line of the table; bytes are compared with those of ``reference``."""
    same = "yes" if ran.hashes == reference.hashes else "no"
    cells = [
        name,
        str(ran.code),
        str(ran.done(ENGINES)),
        str(ran.done(CALLS)),
        str(ran.done(CALLS, "deferred")),
        f"{ran.wall_s:.1f}",
        f"{ran.cpu_s:.1f}",
        f"{ran.cpu_s / first.cpu_s:.3f}",
        same,
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        output, prompt = Path(folder, "one", "set"), Path(folder, "judge.txt")
        first = run(output)
        again = run(output)
        forced = run(output, "--force")
        text = (ROOT / "prompts" / "judge.txt").read_text()
        prompt.write_text(text.replace("\n---\n", "\nTake your time.\n---\n", 1))
        changed = Path(folder, "one", "changed")
        more = ("--set", f"judge.prompt={prompt}")
        plan = json.loads(hardquery("plan", *arguments(changed, *more), "--json").stdout)
        other = run(changed, *more)
        diff = hardquery("diff", str(output), str(changed), "--rows", "0").stdout
        calls = first.done(CALLS)
        budgeted = Path(folder, "two", "set")
        half = run(budgeted, "--max-calls", str(calls // 2))
        half_verdict = hardquery("verify", str(budgeted))
        rest = run(budgeted)
    print("| run | exit code | engine calls | model calls | deferred | wall s | CPU s | of the first | same bytes |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---|")
    print(row("first, from nothing", first, first, first))
    print(row("again, nothing changed", replace(again, work={}), first, first))
    print(row("again, --force", forced, first, first))
    print(row("another judge prompt", other, first, first))
    print(row(f"from nothing, --max-calls {calls // 2}", half, first, first))
    print(row("the same command without the budget", rest, first, first))
    planned = {step["step"]: step["to_run"] for step in plan["steps"]}
    made = {step: other.done((step,)) for step in planned}
    reasons = [f"{step['step']}: {reason['why']}" for step in plan["steps"] for reason in step["reasons"]]
    print(
        f"\nplan before the judge prompt changed: {planned}; what the run then did: {made}; why: {'; '.join(reasons)}"
    )
    print("diff names:", *(line.strip() for line in diff.splitlines() if "prompt judge" in line), sep="\n  ")
    print(f"verify of the budgeted output: exit code {half_verdict.returncode}, {half_verdict.stdout.strip()}")
    sound = (
        again.work == first.work  # the output's own: it was not made again
        and (forced.done(ENGINES), forced.done(CALLS)) == (0, 0)
        and again.hashes == forced.hashes == first.hashes == rest.hashes
        and planned == made
        and (half.code, half_verdict.returncode, rest.code) == (4, 0, 0)
    )
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
