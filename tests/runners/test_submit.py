"""Submitting, waiting and finishing apart: a job that goes on without its driver is found, waited for and published."""

import shutil
from pathlib import Path

import apache_beam as beam
import pytest

from pipeline.finish import is_computed, read_submitted
from pipeline.outputs.manifest import has_manifest, read_manifest
from pipeline.outputs.staging import staging_of
from pipeline.outputs.verify.verify import verify
from runners.cli.main import main
from runners.remote import rooms, submit
from runners.remote.room import Room
from tests.support.make_clips import make_clip

FAST = ["--workers=1", "--set=extract.asr=null", "--set=extract.ocr=null", "--set=emit.frames=null"]
FAST += ["--set=mine.first_stage={engine: bm25}"]


class Job:
    """A job of a cluster: computed when it is waited for, unless somebody stops waiting."""

    def __init__(self, cluster):
        self.cluster, self.state = cluster, "RUNNING"

    def job_id(self):
        return "job-1"

    def wait_until_finish(self, duration=None):
        if self.cluster.interrupts:
            raise KeyboardInterrupt
        if self.cluster.aside.exists():
            # Whoever waits keeps there how far the job is.
            shutil.copytree(self.cluster.aside, staging_of(str(self.cluster.output)), dirs_exist_ok=True)
            shutil.rmtree(self.cluster.aside)
        self.state = "DONE"

    def cancel(self):
        self.cluster.jobs.remove(self)
        self.state = "CANCELLED"


class NotStarted(Job):
    """A job that the cluster gives up on before any worker has started."""

    def wait_until_finish(self, duration=None):
        self.state = "FAILED"
        raise RuntimeError("Pipeline job-0 failed in state FAILED: no worker came")


class Cluster(Room):
    """Beam's local runner behind a job that is under way for as long as nobody waits for it."""

    name, runner = "cluster", "FnApiRunner"
    help = "--runner cluster"

    def __init__(self, output: Path, computed: Path) -> None:
        self.output, self.aside = output, output.parent / "not yet computed"
        self.computed = computed  # what any of these jobs makes, once there was one
        self.jobs: list[Job] = []
        self.submissions = 0
        self.interrupts = False
        self.lazy_starts = 0

    def require(self, request):
        pass

    def outlives_driver(self, request):
        return True

    def submitted(self, pipeline):
        self.submissions += 1
        if self.submissions <= self.lazy_starts:
            return NotStarted(self)
        staging = staging_of(str(self.output))
        if not self.computed.exists():
            run(pipeline)
            shutil.copytree(staging, self.computed)
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(self.computed, self.aside)
        self.jobs.append(Job(self))
        return self.jobs[-1]

    def is_worth_another_try(self, error):
        return "no worker came" in str(error)

    def find(self, submitted, options):
        return next((job for job in self.jobs if job.job_id() == submitted.job), None)


run = beam.Pipeline.run


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, title in (("river", "The river flood of Monday"), ("school", "The council opens a school")):
        make_clip(folder / f"{name}.mp4", frames=12 + len(name))
        (folder / f"{name}.json").write_text(f'{{"title": "{title}", "description": "{title}, at length"}}')
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    return tmp_path_factory.mktemp("computed") / "staging"


@pytest.fixture
def cluster(tmp_path, computed, monkeypatch):
    found = Cluster(tmp_path / "out", computed)
    monkeypatch.setattr(rooms, "ROOMS", (found,))
    # Beam itself runs a pipeline again, with an argument, once it has been to a protocol buffer and back.
    submits = lambda pipeline, *given: run(pipeline, *given) if given else found.submitted(pipeline)  # noqa: E731
    monkeypatch.setattr(beam.Pipeline, "run", submits)
    return found


@pytest.fixture
def command(cluster, videos, cache):
    place = ["--input", str(videos), "--output", str(cluster.output), "--cache", str(cache)]
    return ["run", "demo", *place, *FAST, "--runner", "cluster"]


def left(cluster, command) -> None:
    """Submit the job, and stop waiting for it."""
    cluster.interrupts = True
    assert main(command) == 130
    cluster.interrupts = False
    assert read_submitted(str(cluster.output)).job == "job-1"
    assert not has_manifest(str(cluster.output))


def published(cluster) -> bool:
    output = str(cluster.output)
    assert verify(output) == []
    assert read_submitted(output) is None
    assert not cluster.aside.exists()
    return sorted(path.name for path in cluster.output.iterdir() if path.name.startswith(".")) == []


def test_a_job_that_was_left_is_found_and_waited_for_and_never_started_twice(cluster, command, capsys):
    left(cluster, command)
    said = capsys.readouterr().err
    assert "the job job-1 goes on: the same command waits for it" in said
    assert f"hardquery finish {cluster.output}" in said

    assert main([*command, "--set", "curate.alpha1=-1"]) == 2
    assert "which has another recipe or input" in capsys.readouterr().err
    assert main(command[:-2]) == 2  # on this machine
    assert f"waits for a job on FnApiRunner: hardquery finish {cluster.output}" in capsys.readouterr().err

    assert main(command) == 0
    assert "the job job-1 is at work on this already" in capsys.readouterr().err
    assert cluster.submissions == 1
    assert published(cluster)
    assert read_manifest(str(cluster.output)).work["decode"]["run"] == 2


def test_finish_publishes_what_a_job_made_and_can_be_called_again_whatever_stopped_it(
    cluster, command, capsys, monkeypatch
):
    assert main(["finish", str(cluster.output)]) == 2
    assert "no job was submitted for it" in capsys.readouterr().err
    left(cluster, command)

    for place in ("pipeline.finish.complete", "pipeline.finish.require_sound", "pipeline.finish.forget_submitted"):
        with monkeypatch.context() as stopped:
            stopped.setattr(place, interrupt)
            assert main(["finish", str(cluster.output)]) == 130
    assert main(["finish", str(cluster.output)]) == 0
    assert "is published already" in capsys.readouterr().err

    assert cluster.submissions == 1
    assert published(cluster)
    assert main(["finish", str(cluster.output)]) == 0


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_job_that_ended_without_a_result_is_forgotten_and_run_again(cluster, command, capsys):
    left(cluster, command)
    cluster.jobs.clear()
    shutil.rmtree(cluster.aside)

    assert main(["finish", str(cluster.output)]) == 1
    assert "the job job-1 is over and left nothing to publish" in capsys.readouterr().err
    assert main(command) == 0
    assert cluster.submissions == 2
    assert published(cluster)


def test_a_job_whose_workers_did_not_start_in_time_is_submitted_again(cluster, command, capsys):
    cluster.lazy_starts = 2

    assert main(command) == 0

    assert cluster.submissions == 3
    assert published(cluster)
    said = "".join(capsys.readouterr())
    assert said.count("cluster did not wait for a worker to start") == 2
    assert "no worker came" in said


def test_after_three_tries_it_ends_as_the_runner_says(cluster, command, capsys):
    cluster.lazy_starts = 3

    assert main(command) == 1

    assert cluster.submissions == 3
    assert read_submitted(str(cluster.output)) is None
    assert "no worker came" in capsys.readouterr().err


def test_a_job_can_be_cancelled_from_the_terminal(cluster, command, monkeypatch, capsys):
    cluster.interrupts = True
    monkeypatch.setattr(submit, "_cancels", lambda say: True)

    assert main(command) == 130
    assert "the same command continues" in capsys.readouterr().err
    assert cluster.jobs == []
    assert read_submitted(str(cluster.output)) is None
    assert not is_computed(str(cluster.output))


def test_a_template_is_written_and_its_job_finished_later(cluster, command, capsys):
    assert main([*command, "--template_location", "gs://bucket/template"]) == 0
    assert f"hardquery finish {cluster.output}" in capsys.readouterr().err
    assert main(["finish", str(cluster.output)]) == 4
    assert "launch the template" in capsys.readouterr().err

    cluster.aside.rename(staging_of(str(cluster.output)))  # it was launched, and is done
    assert main(["finish", str(cluster.output)]) == 0
    assert published(cluster)
