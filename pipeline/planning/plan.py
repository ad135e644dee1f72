"""The plan: what a run would do and cost, found by running the same graph on a journal that only looks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult

from pipeline.outputs.manifest import NotAnOutput, read_manifest
from pipeline.planning.changes import not_held
from pipeline.planning.forecast import AT_HAND
from pipeline.planning.look import INPUT, Look
from pipeline.planning.sampled.reckon import reckoned, reckoned_alone
from pipeline.planning.sampled.sample import Sample, Sampling, draw
from pipeline.planning.step import StepPlan
from pipeline.planning.steps import plan_steps
from pipeline.run import Job
from transforms.journal.counts import UNTOLD
from transforms.journal.journal import Journal
from transforms.journal.record import STEPS
from transforms.storage.cache_failed import CacheFailed

_NAMED = 5  # files that cannot be read
SAMPLING = Sampling()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do. ``videos`` are all that the input lists.

    ``media_s`` leaves out videos of ``unknown_length`` (remote ones that were never decoded, or files whose headers do
    not say), and those that are ``unreadable``: not there, no media, or known not to decode; the first of those whose
    headers tell so are ``unreadable_files``, by name. ``untold`` are cached replies of a judge without
    log-probabilities, which a run asks for again where its server reports them. ``at_hand`` are the videos whose
    evidence is there, by which the others are estimated. ``looked_at`` are those that were looked up, all or a sample
    for the rest.
    """

    videos: int
    media_s: float
    unknown_length: int
    unreadable: int
    steps: tuple[StepPlan, ...]
    damage: tuple[str, ...]
    untold: int = 0
    unreadable_files: tuple[str, ...] = ()
    at_hand: int = 0
    looked_at: int = 0


class CannotLook(OSError):
    """The cache cannot be read; one line that names it."""


def make_plan(
    job: Job,
    pipeline: Callable[[], beam.Pipeline],
    run: Callable[[beam.Pipeline], PipelineResult],
    sampling: Sampling | None = SAMPLING,
    like: str = "",
    say: Callable[[str], object] = print,
) -> Plan:
    """Plan a job, whose journal only looks, on empty pipelines of this process; nothing is computed or paid for.

    Of many videos, as ``sampling`` says, only some are looked at, where an output tells of the others: that which is
    ``like`` the one to be made, else the one that stands in its place. None looks at all. Nothing is written but the
    hashes of local media, and these only into a cache that is there and may be written to.

    Raises:
        CannotLook: the cache cannot be read.
        NotAnOutput: there is no output that is ``like`` it.
        UnreadableOutput: a shard of the output is missing or damaged.
    """
    job = replace(job, journal=replace(job.journal, note=not_held))
    with closing(job.journal), tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        _open(job.journal)
        if like:
            read_manifest(like)  # a name that is misspelt is told also where there is no need of it
        look = Look(pipeline, run, Path(folder))
        if sampling is None or len(job.listing.entries) <= sampling.above:
            seen, unsearched = look(job), None
        elif isinstance(found := _sample(job, sampling, like), Sample):
            seen, unsearched = reckoned(job, found, look)
        else:
            seen, unsearched = reckoned_alone(job, sampling, look, lambda looked_at: say(f"{looked_at}: {found}"))
        return Plan(
            videos=len(job.listing.entries),
            media_s=seen.count(INPUT, "milliseconds") / 1000 + seen.files["seconds"],
            unknown_length=round(seen.files["unknown_length"]),
            unreadable=round(seen.count("extract/decode", "failed") + seen.files["unreadable"]),
            steps=plan_steps(job, seen, unsearched),
            damage=tuple(job.journal.damage()),
            untold=round(seen.count("judge", UNTOLD)),
            at_hand=round(seen.count(AT_HAND, "out")),
            unreadable_files=tuple(sorted(map(os.path.basename, look.unreadable))[:_NAMED]),
            looked_at=look.looked_at,
        )


def _open(journal: Journal) -> None:
    try:
        for step in STEPS:
            journal.holds(step)
    except CacheFailed as error:
        raise CannotLook(f"the cache (--cache {journal.root!r}) cannot be read: {error}") from error


def _sample(job: Job, sampling: Sampling, like: str) -> Sample | str:
    """The videos to look at, or why no output tells of the others."""
    output = like or job.output
    try:
        manifest = read_manifest(output)
        sample = draw(job, manifest.tables(output), manifest, sampling)
    except NotAnOutput as error:
        if like:
            raise
        return f"no earlier output tells of them ({error}; --like DIR names another one)"
    return sample or "queries of test sets are compared by vectors, of which no sample tells"
