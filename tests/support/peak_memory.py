"""How much memory a call needs at its peak, whatever the process needed before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STATUS = Path("/proc/self/status")


def peak_mb() -> float:
    """The process's peak resident memory since the last reset (or since it started), in MB."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@contextmanager
def peak_growth_mb() -> Iterator[Callable[[], float]]:
    """Reset the peak; what is yielded says how far memory has grown beyond it since, in MB."""
    if not STATUS.exists():
        pytest.skip("reads peak memory from /proc")
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_mb()
    yield lambda: peak_mb() - before
