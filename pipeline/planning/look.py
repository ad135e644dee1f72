"""A look at a job: all stages but the last on a journal that only looks, and what came by counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult

from pipeline.planning.changes import NotHeld
from pipeline.planning.forecast import ALIKE, OF_OTHERS
from pipeline.planning.sampled.recall import Recall
from pipeline.planning.sampled.recalled import Recalled
from pipeline.planning.seen import Seen, seen_of
from pipeline.planning.unseen import look_into
from pipeline.run import Job, Part, put_stages
from pipeline.stage import LedgerBuilder
from schemas.video import Video
from transforms.extract.list_input import entries_json
from transforms.journal.counts import add, work_of
from transforms.ledger import Counted
from transforms.mine.retrieve import Ranking

INPUT = "input"


@dataclass
class Look:
    """Looks at jobs, each in a pipeline of its own; ``noted`` is what the last one did not find.

    ``looked_at`` are the videos of all of them, ``unreadable`` the addresses of those that cannot be read.
    """

    pipeline: Callable[[], beam.Pipeline]
    run: Callable[[beam.Pipeline], PipelineResult]
    folder: Path
    unreadable: list[str] = field(default_factory=list)
    noted: list[NotHeld] = field(default_factory=list)
    looked_at: int = 0

    def __call__(self, job: Job, recalled: Recalled | None = None, elsewhere: frozenset[str] = frozenset()) -> Seen:
        """Run all stages but the last, and count what comes by; of a part of a corpus with what there is to tell."""
        pipeline, before = self.pipeline(), len(job.journal.misses())
        entries_path = self.folder / f"entries-{before}.jsonl"
        self.looked_at += len(job.listing.entries)
        entries_path.write_bytes(entries_json(job.listing.entries))
        ledger = LedgerBuilder()
        part = None
        if recalled is not None:
            part = Part(Recall(recalled, job.engines, job.cache, job.journal, ledger), elsewhere)
        found = put_stages(pipeline, job, str(entries_path), ledger, part)
        for n, (items, counted) in enumerate(ledger.counted(pipeline).items()):
            _ = items | f"Count {n}" >> beam.Map(_add_one, counted)
        _ = ledger.work(pipeline) | "Work" >> beam.MapTuple(add)
        _ = found["decoded"] | "Length" >> beam.Map(_add_length)
        _ = found["ranked"] | "Alike" >> beam.Map(_add_alike)
        counts = work_of(self.run(pipeline))
        self.noted = job.journal.misses()[before:]
        unseen = look_into([miss.subject for miss in self.noted if miss.step in ("media", "decode")], job.workers)
        self.unreadable += unseen.unreadable
        return seen_of(job, counts, self.noted, unseen)


def _add_one(item: object, counted: Sequence[Counted]) -> None:
    """Count an item by Beam's own counters, which come with a run's result: a look writes no ledger."""
    for key, _ in counted:
        stage, step, outcome, _ = key(item) if callable(key) else key
        add(f"{stage}/{step}", outcome, 1)


def _add_alike(ranking: Ranking) -> None:
    """Count what was dropped for a query, as far as other videos' queries said the same."""
    if ranking.query.source == "teacher":
        add(ALIKE, OF_OTHERS, len(ranking.query.also_relevant))


def _add_length(video: Video) -> None:
    add(INPUT, "milliseconds", round(1000 * (video.media.duration_s or 0.0)))
