"""kill -9 at random moments: the same command, run again, must end with the same shards and repeat no finished work.

Run with ``python -m benchmarks.kill [--kills 25] [--remote]``. The demo recipe on the sample corpus is run once in
peace. Then it is killed in every step in turn, at a random moment; the same command is run again until it ends, and its
shards and TREC files are compared by SHA-256 with those of the run in peace. Every fifth run is killed a second time
while it resumes, in a step that no journal shortens.

A call is repeated if it began more than once, over all runs of one trial: killed ones, and the one that ended. It was
in flight if it had begun and its result was not known to be in the journal when its run was killed. Trials of the steps
after extraction begin with a copy of the cache of the run in peace, without the journals of their own step and of all
later ones, unless ``--cold`` is given. ``--remote`` keeps cache and output on an S3 server on loopback. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.watched_run import Moment, Run, Start, draw_moment, in_an_interpreter, run_watched, steps_of
from pipeline.outputs.manifest import read_manifest
from pipeline.outputs.verify.verify import verify
from transforms.journal.record import STEPS
from transforms.storage.files import connect, join, list_files, make_parent

ROOT = Path(__file__).parent.parent
EXTRACT = ("media", "decode", "asr", "ocr", "caption", "frame_hashes")
PEACE = "peace"  # the name of the run that nobody kills
REDONE = ("mine", "emit", "publish")  # by every run, for they are not journaled


@dataclass(frozen=True)
class Job:
    """What is run again and again: ``arguments`` of ``hardquery run`` but for output and cache, which lie in ``place``.

    ``place`` is a folder or a URL; ``folder``, on this machine, takes what else the runs leave behind. The run in peace
    is an interpreter of its own; any other is begun by ``begun``.
    """

    arguments: tuple[str, ...]
    place: str
    folder: Path
    begun: Start = in_an_interpreter

    def output(self, name: str) -> str:
        """The output of a trial."""
        return join(self.place, name, "out")

    def cache(self, name: str) -> str:
        """The cache of a trial, or of the run in peace."""
        return join(self.place, name, "cache")

    def start(self, name: str, kill_after: Moment | None = None) -> Run:
        """Run the command of a trial, or the run in peace, once, to its end or until it is killed."""
        command = ["run", *self.arguments, "--output", self.output(name), "--cache", self.cache(name)]
        return run_watched(command, self.folder, kill_after, in_an_interpreter if name == PEACE else self.begun)


@dataclass(frozen=True)
class Trial:
    """What came of one job that was killed; ``problem`` says how its end differs from that of the run in peace.

    ``needless`` are those of the ``repeated`` calls that were not in flight.
    """

    step: str
    kills: int
    cold: bool
    problem: str
    repeated: int
    in_flight: int
    needless: int
    left: int
    resume_s: float

    @property
    def holds(self) -> bool:
        """Whether it ended as it should."""
        return not self.problem and not self.needless and not self.left


@dataclass(frozen=True)
class Peace:
    """The run that nobody killed."""

    run: Run
    hashes: dict[str, str]


def run_in_peace(job: Job) -> Peace:
    """Run the job to its end under the name of ``PEACE``. Raises RuntimeError where it fails."""
    run = job.start(PEACE)
    hashes = {} if run.code else output_hashes(job.output(PEACE))
    if problem := problem_with(job, PEACE, run, hashes):
        raise RuntimeError(problem)
    return Peace(run, hashes)


def try_kills(job: Job, peace: Peace, name: str, moments: Sequence[Moment], cold: bool = True) -> Trial:
    """Kill a job at each of the moments in turn, each in a run of its own, then let it end.

    Where not ``cold``, it begins with what the run in peace had recorded in the steps before the first moment's.
    """
    first = moments[0]
    kept = [] if cold else [step for step in STEPS if step in EXTRACT or _is_before(step, first.step)]
    if kept:
        copy_cache(job.cache(PEACE), job.cache(name), kept)
    runs = [job.start(name, first)]
    for moment in [*moments[1:], None]:
        if runs[-1].was_killed:
            runs.append(job.start(name, moment))
    calls = Counter(event.key for event in peace.run.events if event.step in kept and event.kind == "start")
    calls += sum((run.keys(STEPS, "start") for run in runs), Counter[str]())
    in_flight = sum((run.keys(STEPS, "start") - run.keys(STEPS, "end") for run in runs), Counter[str]())
    repeated = calls - Counter(set(calls))
    trial = Trial(
        first.step,
        len(runs) - 1,
        not kept,
        problem_with(job, name, runs[-1], peace.hashes),
        repeated.total(),
        in_flight.total(),
        (repeated - in_flight).total(),
        sum(len(run.left) for run in runs),
        runs[-1].wall_s,
    )
    FileSystems.delete([join(job.place, name, path) for path in list_files(join(job.place, name))])
    return trial


def _is_before(step: str, other: str) -> bool:
    judging = STEPS.index("judge")
    order = [*STEPS[:judging], "mine", *STEPS[judging:], "emit", "publish"]
    return order.index(step) < order.index(other)


def output_hashes(output: str) -> dict[str, str]:
    """The SHA-256 of every shard and TREC file, by the manifest."""
    files = read_manifest(output).files
    return {file.path: file.sha256 for file in files if file.rows is not None or file.path.endswith(".trec")}


def problem_with(job: Job, name: str, run: Run, hashes: Mapping[str, str]) -> str:
    """What is wrong with how a run ended, or empty: it succeeded, its output verifies and has these hashes."""
    if run.code:
        return f"exit code {run.code}: {run.said[-1000:]}"
    if problems := verify(job.output(name)):
        return f"does not verify: {problems[0]}"
    found = output_hashes(job.output(name))
    return ", ".join(sorted(path for path in {*found, *hashes} if found.get(path) != hashes.get(path)))


def copy_cache(source: str, target: str, steps: Sequence[str]) -> None:
    """Copy a cache with the journals of these steps alone."""
    for path in list_files(source):
        folder, _, rest = path.partition("/")
        if folder != "journal" or rest.partition("/")[0] in steps:
            make_parent(join(target, path))
            FileSystems.copy([join(source, path)], [join(target, path)])


def moments_of(peace: Peace, kills: int, rng: random.Random) -> list[list[Moment]]:
    """The moments of each trial: every step in turn, and a second kill in every fifth trial."""
    events, trials = peace.run.events, []
    steps = steps_of(events)
    for number in range(kills):
        again = [rng.choice(REDONE)] if number % 5 == 4 else []
        trials.append([draw_moment(events, step, rng) for step in [steps[number % len(steps)], *again]])
    return trials


def table(trials: Sequence[Trial]) -> str:
    """A row for every step of the first kill."""
    lines = [
        "| killed in | trials | kills | cache | identical | calls repeated (max) | in flight (max) | processes left "
        "| s to resume |",
        "|---|---:|---:|---|---:|---:|---:|---:|---:|",
    ]
    for step in dict.fromkeys(trial.step for trial in trials):
        of = [trial for trial in trials if trial.step == step]
        cells = [
            step,
            len(of),
            sum(trial.kills for trial in of),
            "empty" if of[0].cold else "copied",
            f"{sum(not trial.problem for trial in of)} of {len(of)}",
            max(trial.repeated for trial in of),
            max(trial.in_flight for trial in of),
            sum(trial.left for trial in of),
            round(statistics.median(trial.resume_s for trial in of)),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def sample_manifest(folder: Path, clips: int | None) -> Path:
    """The list of the first clips of the sample corpus, all where None."""
    lines = (ROOT / "samples" / "manifest.jsonl").read_text().splitlines()[:clips]
    entries = [json.loads(line) for line in lines]
    path = folder / "clips.jsonl"
    path.write_text("".join(json.dumps({**e, "uri": str(ROOT / "samples" / e["uri"])}) + "\n" for e in entries))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25, help="trials; every fifth has a second kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, help="of the sample corpus (default: all 30)")
    parser.add_argument("--cold", action="store_true", help="begin all trials with an empty cache")
    parser.add_argument("--remote", action="store_true", help="cache and output on an S3 server on loopback")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of hardquery run")
    given = parser.parse_args()
    if given.remote:
        from tests.support.s3_server import serving_in_child
    with tempfile.TemporaryDirectory() as name, serving_in_child() if given.remote else nullcontext() as s3:
        folder = Path(name)
        if s3 is not None:
            os.environ.update(s3.environment)
            connect(PipelineOptions([]), s3.root)
        source = str(sample_manifest(folder, given.clips))
        arguments = ("demo", "--input", source, "--workers", "2", *(f"--set={setting}" for setting in given.set))
        job = Job(arguments, s3.root if s3 is not None else name, folder)
        peace = run_in_peace(job)
        print(f"in peace: {peace.run.wall_s:.0f} s", file=sys.stderr)
        trials = []
        for number, moments in enumerate(moments_of(peace, given.kills, random.Random(given.seed))):
            cold = given.cold or moments[0].step in EXTRACT
            trials.append(try_kills(job, peace, f"trial{number}", moments, cold))
            print(f"{number + 1}: {'; '.join(map(str, moments))} -> {trials[-1]}", file=sys.stderr)
    held, kills = sum(trial.holds for trial in trials), sum(trial.kills for trial in trials)
    calls = peace.run.keys(STEPS, "start").total()
    print(table(trials))
    print(
        f"\n{held} of {len(trials)} runs, killed {kills} times, ended with shards identical to those of a run in peace "
        f"({len(peace.hashes)} files, {calls} calls, {peace.run.wall_s:.0f} s) and repeated no more calls than were in "
        "flight."
    )
    return 0 if held == len(trials) else 1


if __name__ == "__main__":
    sys.exit(main())
