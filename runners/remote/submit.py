"""Submitting a run, waiting for it, and finishing its output: apart, and each of them again if need be."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import Any

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.portability.job_server import StopOnExitJobServer

from pipeline.finish import (
    Submitted,
    forget_submitted,
    is_computed,
    publish_finished,
    read_submitted,
    write_submitted,
)
from pipeline.outputs.errors import OutputError
from pipeline.outputs.lock import hold
from pipeline.outputs.manifest import Manifest, has_manifest, read_manifest
from pipeline.outputs.publish import settle
from pipeline.outputs.staging import clear_staging
from pipeline.run import Job, check_output, put_graph
from runners import local
from runners.cause import cause
from runners.remote.progress import follow
from runners.remote.room import AtWork, Request, is_at_work
from runners.remote.rooms import Chosen, room_of
from transforms.ledger import Line
from transforms.workers import sandbox, window

_TRIES = 3  # to have workers start at all
_JOB_SERVERS = ("PrismJobServer", "FlinkJarJobServer", "SparkJarJobServer")  # loggers of what they print

Say = Callable[[str], None]
Watch = Callable[[threading.Event], object]


class Left(RuntimeError):
    """The job goes on, or is yet to be launched, without this process; the message says how its output is published.

    ``interrupted`` where somebody did not want to wait.
    """

    interrupted = False


class LeftAlone(Left):
    """The job goes on, though somebody has stopped this process."""

    interrupted = True


class JobEnded(RuntimeError):
    """A job came to its end and left nothing to publish."""


def run_remote(
    job: Job, chosen: Chosen, request: Request, say: Say, watch: Watch
) -> tuple[Manifest, list[Line], list[str]]:
    """Submit a job, or find that it runs already; wait for it, and publish its output.

    Returns what ``execute`` does, and raises it.

    Raises:
        Left: it was left to run, or became a template.
    """
    check_output(job.output)
    with hold(job.output) as confirm, job_servers_stopped():
        settle(job.output)
        submitted = _found(job, say, watch)
        damage: list[str] = []
        if submitted is None:
            clear_staging(job.output)
            with closing(job.journal):
                submitted = _begun(job, chosen, request, say, watch)
                damage = job.journal.damage()
        manifest, lines = publish_finished(job.output, submitted, confirm)
    return manifest, lines, damage


def finish_output(output: str, say: Say, watch: Watch) -> tuple[Manifest, list[Line]] | None:
    """Wait for the job that was submitted for an output, and publish it; None where it was published before.

    Raises:
        OutputError: no job was submitted for it, or it is in use.
        Left: the job was left to run, or is a template that is yet to be launched.
        JobEnded: it left nothing to publish.
        NotPublished: what it made must not be published.
    """
    with hold(output) as confirm:
        settle(output)
        submitted = read_submitted(output)
        if submitted is None:
            if has_manifest(output):
                return None
            raise OutputError(f"--output {output!r}: no job was submitted for it")
        if not is_computed(output):
            if has_manifest(output) and read_manifest(output).created == submitted.info.created:
                forget_submitted(output)  # by a driver that was killed after publication
                return None
            found = _find(submitted)
            if not submitted.job:
                raise Left(f"nothing was computed yet: launch the template, then hardquery finish {output}")
            if found is not None:
                _wait(found, submitted, output, True, False, say, watch)
            if not is_computed(output):
                forget_submitted(output)
                raise JobEnded(f"the job {submitted.job} is over and left nothing to publish; run it again")
        return publish_finished(output, submitted, confirm)


def _found(job: Job, say: Say, watch: Watch) -> Submitted | None:
    """The job that was submitted for this output earlier, now at its end; None where there is none to be had."""
    submitted = read_submitted(job.output)
    if submitted is None:
        return None
    found = None if is_computed(job.output) else _find(submitted)
    if not is_computed(job.output) and not is_at_work(found):
        forget_submitted(job.output)
        return None
    info = submitted.info
    if (info.recipe_fingerprint, info.input) != (job.recipe.fingerprint, job.input):
        raise OutputError(
            f"--output {job.output!r} is of the job {submitted.job}, which has another recipe or input: "
            f"hardquery finish {job.output}, or name another folder"
        )
    if found is not None:
        say(f"the job {submitted.job} is at work on this already: waiting for it {submitted.page}".rstrip())
        _wait(found, submitted, job.output, True, False, say, watch)
    return submitted


def _find(submitted: Submitted) -> AtWork | None:
    room = room_of(submitted.info.runner)
    return room.find(submitted, PipelineOptions(list(submitted.flags))) if room else None


def _begun(job: Job, chosen: Chosen, request: Request, say: Say, watch: Watch) -> Submitted:
    """Submit a job, and again where its runner did not wait for its workers to start."""
    left = _TRIES
    while True:
        try:
            return _submit(job, chosen, request, say, watch)
        except Exception as error:  # of whatever kind Beam makes of what a job service says
            left -= 1
            if not left or not chosen.room.is_worth_another_try(error):
                raise
            say(f"{chosen.room.name} did not wait for a worker to start ({cause(error)}): submitted again")


def _submit(job: Job, chosen: Chosen, request: Request, say: Say, watch: Watch) -> Submitted:
    room, options = chosen.room, chosen.options
    google = options.view_as(GoogleCloudOptions)
    google.job_name = google.job_name or request.name
    pipeline = local.make_pipeline(options)
    submitted = put_graph(job, pipeline, room.runner)
    outlives = room.outlives_driver(request)
    result: Any = pipeline.run()
    if google.template_location:
        write_submitted(job.output, replace(submitted, flags=chosen.flags))
        raise Left(
            f"template: {google.template_location}\nLaunch it; when its job is done, hardquery finish {job.output} "
            "publishes"
        )
    if outlives:
        name = result.job_id() if hasattr(result, "job_id") else google.job_name
        submitted = replace(submitted, job=name, flags=chosen.flags)
        submitted = replace(submitted, page=room.page(submitted, options))
        write_submitted(job.output, submitted)
        say(f"job {submitted.job} {submitted.page}".rstrip())
    _wait(result, submitted, job.output, outlives, chosen.is_here, say, watch)
    return submitted


def _wait(
    found: AtWork, submitted: Submitted, output: str, outlives: bool, is_here: bool, say: Say, watch: Watch
) -> None:
    """Wait for the end of a job, in the main thread as Beam wants it, while another shows progress."""
    over = threading.Event()
    follows = () if is_here else (lambda: follow(found, over),)
    threads = [threading.Thread(target=work, name="progress", daemon=True) for work in (lambda: watch(over), *follows)]
    for thread in threads:
        thread.start()
    try:
        found.wait_until_finish()
    except KeyboardInterrupt:
        over.set()
        if outlives and not _cancels(say):
            raise LeftAlone(
                f"the job {submitted.job} goes on: the same command waits for it, and hardquery finish {output} "
                "publishes"
            ) from None
        with suppress(Exception):  # it may be over, or its job server; whatever stops it, this process ends
            found.cancel()
        forget_submitted(output)
        raise
    except Exception:  # whatever ended the wait; a job that is still at work is found again by its file
        if not is_computed(output):
            with suppress(OSError):
                if not is_at_work(found):
                    forget_submitted(output)
        raise
    finally:
        over.set()
        for thread in threads:
            thread.join()
        sandbox.shut_down()
        window.shut_down()


def _cancels(say: Say) -> bool:
    """Whether somebody at the terminal wants the job to end too."""
    if not sys.stdin.isatty():
        return False
    say("The job goes on without this process. Enter leaves it, c and Enter cancel it:")
    try:
        return sys.stdin.readline().strip().lower() == "c"
    except KeyboardInterrupt:
        return False


@contextmanager
def job_servers_stopped() -> Iterator[None]:
    """Stop all job servers that are started within the block: nothing else does, where a process ends without atexit.

    And keep what they say of a job's end, which is raised as well, out of the terminal.
    """
    started: list[StopOnExitJobServer] = []
    start = StopOnExitJobServer.start

    def start_and_keep(self: StopOnExitJobServer) -> Any:
        started.append(self)
        return start(self)

    StopOnExitJobServer.start = start_and_keep
    logging.getLogger().addFilter(_is_no_message_of_a_job)
    for name in _JOB_SERVERS:
        logging.getLogger(name).disabled = not os.environ.get("HARDQUERY_TRACEBACK")
    try:
        yield
    finally:
        logging.getLogger().removeFilter(_is_no_message_of_a_job)
        StopOnExitJobServer.start = start
        for server in started:
            server.stop()


def _is_no_message_of_a_job(record: logging.LogRecord) -> bool:
    return record.module != "portable_runner"
