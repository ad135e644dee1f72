"""A prepared job, run to its end on the runner that its options name."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.standing import standing
from pipeline.planning.plan import SAMPLING, Plan, make_plan
from pipeline.run import execute, given_of
from runners import local
from runners.console.kept import Looking, StatusFile
from runners.console.progress import QUIET_S, View
from runners.console.progress import watch as show_in
from runners.job import Prepared
from runners.remote.submit import Say, run_remote
from transforms import progress
from transforms.ledger import Line


@dataclass(frozen=True)
class Finished:
    """A published run: its manifest, the ledger's lines, and what damage was met in the journal."""

    manifest: Manifest
    lines: Sequence[Line]
    damage: Sequence[str]

    @property
    def deferred(self) -> int:
        """How many items were left for a later run."""
        return sum(sum(line.deferred.values()) for line in self.lines)


def run(prepared: Prepared, views: Sequence[View] = (), say: Say = print) -> Finished:
    """Run the job while ``views`` show how far it is, unless its output is to be left alone.

    Raises what ``pipeline.run.execute`` raises, and any other error that stopped it.
    """
    job, options = prepared.job, prepared.options
    if (finished := left_alone(prepared)) is not None:
        since = f"nothing has changed since {finished.manifest.created}"
        say(f"{since}: {job.output} stays as it is (--force makes it again)")
        return finished
    progress.reset()
    local.quieten()
    watch = partial(show_in, views=[*views, StatusFile(job.output)], look=Looking(job, here=prepared.remote is None))
    if (remote := prepared.remote) is not None:
        return Finished(*run_remote(job, remote.chosen, remote.request, say, watch))
    pipeline, name = local.make_pipeline(options), local.runner_name(options)
    began_s = time.monotonic()

    def work(pipeline: beam.Pipeline) -> PipelineResult:
        result = local.run(pipeline, watch)
        if time.monotonic() - began_s > QUIET_S:  # of a run that takes long this takes minutes, too
            say("all shards are written: they are checked, and published")
        return result

    return Finished(*execute(job, pipeline, runner=name, run=work))


def left_alone(prepared: Prepared) -> Finished | None:
    """The earlier run whose output is to be left alone, as this one would only make it again, if there is one."""
    job = prepared.job
    found = standing(job.output, given_of(job), job.journal.retry) if not prepared.force else None
    return Finished(*found, damage=()) if found is not None else None


def plan(prepared: Prepared, say: Say = print) -> Plan:
    """The plan of a job that was prepared to be looked at; wherever the run will be, looking is done here.

    Raises what ``pipeline.planning.plan.make_plan`` raises.
    """
    local.quieten()
    options = local.here(prepared.options)
    return make_plan(
        prepared.job,
        lambda: local.make_pipeline(options),
        lambda pipeline: local.run(pipeline, threading.Event.wait),
        sampling=None if prepared.whole else SAMPLING,
        like=prepared.like,
        say=say,
    )
