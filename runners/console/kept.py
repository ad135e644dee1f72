"""How far a run is, kept beside what it writes, for whoever asks from another shell."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

import msgspec

from pipeline.outputs.staging import PROGRESS, staging_of
from pipeline.planning.foretell import foretold, seconds_each
from pipeline.run import Job
from runners.console.outlook import Outlook, outlook
from runners.console.progress import TICK_S, View
from schemas.check import read_json
from transforms import progress
from transforms.storage.files import join, read_bytes, write_bytes


@dataclass(frozen=True)
class Kept:
    """How far a run was ``at`` a moment (UTC, ISO 8601)."""

    at: str
    seen: Outlook


class StatusFile(View):
    """Keeps how far the run is in the staging folder of its output; what cannot be written is left out."""

    every = round(5 / TICK_S)

    def __init__(self, output: str) -> None:
        self._path = join(staging_of(output), PROGRESS)

    def show(self, seen: Outlook, said: Sequence[str]) -> None:
        """Put it into the file, whole."""
        kept = Kept(datetime.now(UTC).isoformat(timespec="seconds"), seen)
        with suppress(Exception):  # each filesystem has its own errors, and a run does not end for this
            write_bytes(self._path, msgspec.json.encode(kept))


def read_kept(output: str) -> Kept | None:
    """How far the run was that last wrote into the output's staging folder; None where nothing tells."""
    try:
        return read_json(read_bytes(join(staging_of(output), PROGRESS)), Kept)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


class Looking:
    """Looks how far a run is: counts of this process, and what was foretold of its ``job``, if that is known.

    What earlier runs took is learnt from the journal of one that runs here.
    """

    def __init__(self, job: Job | None = None, here: bool = True) -> None:
        self._job, self._here = job, here
        self._began_s = time.monotonic()
        self._foretold = foretold(job) if job is not None else {}
        self._seconds_each = cache(self._recorded_seconds)

    def __call__(self) -> Outlook:
        """How far it is now."""
        elapsed_s = time.monotonic() - self._began_s
        bill = self._job.journal.bill() if self._job is not None else None
        return outlook(progress.snapshot(), self._foretold, self._seconds_each, elapsed_s, bill)

    def _recorded_seconds(self, step: str) -> float | None:
        if self._job is None or not self._here:
            return None
        with suppress(OSError):  # who works on the journal says what is wrong with it
            return seconds_each(self._job, step)
        return None
