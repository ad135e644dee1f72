"""A run that takes down when each piece of work begins and ends, and that can be told where to be killed.

``python -m benchmarks.watched_run [--kill-after MOMENT] LOG run demo …`` is ``hardquery run demo …``. The log has lines
for every engine or teacher call, before it begins and when its result is in the journal, for every query that the first
stage is asked, and for every file of the output that is staged or published. The code under test knows nothing of it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
OVER = "over"
PATIENCE_S = 5.0  # until children must have noticed that their parent is gone
_TRIAL = "HARDQUERY_KILL_TRIAL"  # in the environment of all processes of a run

Start = Callable[[Sequence[str], Path, Mapping[str, str]], int]  # this program's arguments, for its words, environment


@dataclass(frozen=True)
class Event:
    """One line of the log: something of a step has begun ("start"), or is done and safe ("end")."""

    at_s: float
    kind: str
    step: str
    key: str

    @property
    def mark(self) -> str:
        """What a moment counts."""
        return f"{self.kind} {self.step}"


@dataclass(frozen=True)
class Moment:
    """When to kill a run: so long after the n-th event with this mark, and in any case before the next event."""

    mark: str
    nth: int
    delay_s: float

    @property
    def step(self) -> str:
        """The step that is at work then."""
        return self.mark.split()[1]

    def __str__(self) -> str:
        return f"{self.mark} {self.nth} {self.delay_s:.6f}"

    @classmethod
    def parse(cls, text: str) -> Moment:
        """The inverse of ``str``."""
        kind, step, nth, delay_s = text.split()
        return cls(f"{kind} {step}", int(nth), float(delay_s))


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end or to its kill; ``left`` are children that outlived it."""

    code: int
    said: str
    wall_s: float
    events: list[Event]
    left: list[int]

    @property
    def was_killed(self) -> bool:
        """Whether it ended by the kill that it was started for."""
        return self.code == -signal.SIGKILL

    def keys(self, steps: Collection[str], kind: str) -> Counter[str]:
        """How often something of these steps has begun, or ended, by its key."""
        return Counter(event.key for event in self.events if event.step in steps and event.kind == kind)


def in_an_interpreter(arguments: Sequence[str], said: Path, environment: Mapping[str, str]) -> int:
    """Run this program in a Python of its own; its exit code."""
    command = [sys.executable, "-m", "benchmarks.watched_run", *arguments]
    with said.open("w") as out:
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=out, stderr=out, check=False).returncode


def run_watched(
    command: Sequence[str], folder: Path, kill_after: Moment | None, start: Start = in_an_interpreter
) -> Run:
    """Run ``hardquery`` with these arguments, to its end or until it is killed; ``folder`` takes what it leaves."""
    trial = uuid.uuid4().hex
    log, said = folder / f"{trial}.log", folder / f"{trial}.txt"
    (folder / "tmp").mkdir(exist_ok=True)
    watched = ["--kill-after", str(kill_after)] if kill_after else []
    beside = {_TRIAL: trial, "TMPDIR": str(folder / "tmp"), "XDG_CACHE_HOME": str(folder / "home")}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **beside}
    began = time.monotonic()
    code = start([*watched, str(log), *command], said, environment)
    return Run(code, said.read_text(), time.monotonic() - began, read_log(log), survivors(trial))


def survivors(trial: str) -> list[int]:
    """Processes of a run that are still there when ``PATIENCE_S`` have passed; they are killed."""
    deadline = time.monotonic() + PATIENCE_S
    while (left := _processes(trial)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return left


def _processes(trial: str) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_TRIAL}={trial}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:  # it has just ended, or is not ours
            continue
    return found


def read_log(path: Path) -> list[Event]:
    """All events of a run, in order."""
    events = []
    for line in path.read_text().splitlines() if path.exists() else ():
        at_s, kind, step, key = line.split(" ", 3)
        events.append(Event(float(at_s), kind, step, key))
    return events


def steps_of(events: Sequence[Event]) -> list[str]:
    """The steps of a run in the order in which they began."""
    return list(dict.fromkeys(event.step for event in events if event.step not in ("media", OVER)))


def draw_moment(events: Sequence[Event], step: str, rng: random.Random) -> Moment:
    """A moment of a step, whose events are equally likely; ``events`` are those of a whole run."""
    gaps = [(index, after.at_s - one.at_s) for index, (one, after) in enumerate(pairwise(events)) if one.step == step]
    index, length_s = rng.choice(gaps)
    mark = events[index].mark
    return Moment(mark, sum(event.mark == mark for event in events[: index + 1]), rng.uniform(0, length_s))


class Log:
    """Appends events; kills this process at the given moment.

    The process kills itself because no one outside could hit the few milliseconds of publishing. SIGKILL runs no line
    of its code either way.
    """

    def __init__(self, path: Path, kill_after: Moment | None) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o644)
        self._moment = kill_after
        self._seen = 0
        self._writing = threading.Lock()

    def add(self, kind: str, step: str, key: str = "") -> None:
        """Append one event; safe to use from threads."""
        with self._writing:
            if self._moment is not None and self._seen == self._moment.nth:
                _die()
            os.write(self._file, f"{time.monotonic():.6f} {kind} {step} {key}\n".encode())
            if self._moment is not None and self._moment.mark == f"{kind} {step}":
                self._seen += 1
                if self._seen == self._moment.nth:
                    threading.Timer(self._moment.delay_s, _die).start()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def watch(log: Log) -> None:
    """Have all work of this process write to the log."""
    from pipeline.outputs import publish
    from pipeline.outputs.staging import COMMIT, STAGING
    from transforms.journal.open_journal import OpenJournal
    from transforms.journal.record import RecordedFailure
    from transforms.mine import retrieve
    from transforms.storage import files

    do: Callable[..., Any] = OpenJournal._do
    rename, search = files.rename, retrieve.search

    def watched_do(journal: OpenJournal, key: Any, digest: str, work: Callable[[], Any], *rest: Any) -> Any:
        def begin() -> Any:
            log.add("start", key.step, digest)
            return work()

        try:
            result = do(journal, key, digest, begin, *rest)
        except RecordedFailure:
            log.add("end", key.step, digest)
            raise
        log.add("end", key.step, digest)
        return result

    def watched_search(query: Any, *rest: Any) -> Any:
        log.add("start", "mine", query.query_id)
        return search(query, *rest)

    def watched_rename(source: str, destination: str) -> None:
        rename(source, destination)
        if f"/{STAGING}/" in source:
            is_staged = f"/{STAGING}/" in destination and not destination.endswith(COMMIT)
            log.add("end", "emit" if is_staged else "publish", destination)

    watched: list[tuple[Any, str, Any]] = [
        (OpenJournal, "_do", watched_do),
        (files, "rename", watched_rename),
        (publish, "rename", watched_rename),
        (retrieve, "search", watched_search),
    ]
    for owner, name, function in watched:
        setattr(owner, name, function)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("--kill-after", type=Moment.parse, metavar="MOMENT", help="such as 'start asr 12 0.5'")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()

    from runners.cli import main as command_line

    log = Log(arguments.log, arguments.kill_after)
    watch(log)
    run = command_line.main

    def run_to_the_end() -> int:
        code = run(arguments.command)
        log.add("end", OVER)
        return code

    command_line.main = run_to_the_end  # type: ignore[assignment]
    sys.argv = ["hardquery", *arguments.command]
    command_line.entry()


if __name__ == "__main__":
    main()
