"""A parent's watch over the child that answers a call: it ends one that has worked for too long, or sleeps for good."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PREPARATION_LIMIT_S = 3600.0
"""A model of gigabytes may have to be downloaded first, and by one child after the other."""
GRACE_S = 5.0
"""A child ends itself at its limit. One that cannot, because its signals are blocked, is ended so much later."""
AWAKE = 0.01
"""Share of a processor: a busy machine gives more to whoever asks for one."""

PROC = Path("/proc")


@dataclass(frozen=True)
class Limit:
    """What a call may take: seconds of CPU time, of all threads of its process, and seconds asleep.

    Only the first follow from the work itself; how long a machine takes to give them depends on what else it does. A
    call is asleep while it gets less than a hundredth of a processor; each second of work undoes a hundred asleep.
    """

    cpu_s: float
    asleep_s: float = 600.0


class Watchdog:
    """Watches one call. The child says in two files of ``folder`` that it has begun, and that it is prepared."""

    def __init__(self, folder: Path, limit: Limit) -> None:
        self._limit = limit
        self._begun, self._prepared = folder / "begun", folder / "prepared"
        self._asleep_s = 0.0
        self._used_s: float | None = None  # when last seen at the call itself
        self.said = ""

    def begin(self) -> None:
        """In the child: it works on this call from now on."""
        _write(self._begun, str(os.getpid()))

    def say_prepared(self) -> None:
        """In the child: what it uses from now on counts."""
        _write(self._prepared, str(cpu_time_s(os.getpid())))

    def end(self) -> None:
        """In the child: whatever it does from now on is for another call."""
        self._begun.unlink(missing_ok=True)

    @property
    def prepared(self) -> bool:
        """Whether the child has got so far, even if it has died since."""
        return self._prepared.exists()

    def look(self, waited_s: float) -> None:
        """In the parent, every ``waited_s`` seconds: kill the child if it is over its limit, and say so in ``said``.

        Time is counted by looks, so that none passes while this process itself is stopped or gets no processor.
        """
        if self.said or not self._begun.exists():
            return
        if not self.prepared:
            self._asleep_s += waited_s
            if self._asleep_s > PREPARATION_LIMIT_S:
                self._kill(f"no answer within {PREPARATION_LIMIT_S:g} s")
            return
        with suppress(OSError, ValueError):  # the call has just ended
            self._judge(cpu_time_s(int(self._begun.read_text())) - float(self._prepared.read_text()), waited_s)

    def _judge(self, used_s: float, waited_s: float) -> None:
        before_s, self._used_s = self._used_s, used_s
        if used_s > self._limit.cpu_s + GRACE_S:
            self._kill(used_up(self._limit))
        elif before_s is None:
            self._asleep_s = 0.0
        else:
            self._asleep_s = max(0.0, self._asleep_s + waited_s - (used_s - before_s) / AWAKE)
            if self._asleep_s > self._limit.asleep_s:
                self._kill(f"no answer within {self._limit.asleep_s:g} s asleep")

    def _kill(self, said: str) -> None:
        with suppress(OSError, ValueError):  # it has just ended by itself
            os.kill(int(self._begun.read_text()), signal.SIGKILL)
            self.said = said


def used_up(limit: Limit) -> str:
    """What is said of a call that has used its CPU time."""
    return f"no answer within {limit.cpu_s:g} s of CPU time"


def cpu_time_s(pid: int) -> float:
    """The CPU time that all threads of a process have used, in seconds; 0 where this machine does not tell.

    Raises:
        OSError, ValueError: there is no such process.
    """
    if (PROC / "self" / "stat").exists():
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    try:
        said = subprocess.run(["ps", "-o", "time=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:  # not on Windows
        return 0.0
    return seconds(said)


def seconds(said: str) -> float:
    """CPU time as ``ps`` writes it: [days-][hours:]minutes:seconds. Raises ``ValueError`` where it is none."""
    days, _, clock = said.strip().rpartition("-")
    total_s = 0.0
    for part in clock.split(":"):
        total_s = 60 * total_s + float(part)
    return 86_400 * int(days or 0) + total_s


def _write(file: Path, text: str) -> None:
    """At once or not at all."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(file)
