"""A run that is killed with -9 and started again ends as if nothing had happened, on a disk and on an object store."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks import watched_run
from benchmarks.kill import Job, copy_cache, run_in_peace, sample_manifest, try_kills
from benchmarks.watched_run import Event, Moment, draw_moment
from tests.support.altered_clips import write_beginning
from tests.support.forks import Fork
from tests.support.s3_server import serving_in_child
from transforms.storage.files import connect, list_files, write_bytes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")

QUICK = ("extract.asr=null", "extract.ocr=null", "extract.frames.max_frames=2", "emit.frames.frames=2")
QUICK += ("synthesize.variants=[caption,metadata]", "synthesize.queries_per_variant=1", "curate.alpha1=-0.5")
QUICK += ("judge.panel={second: {engine: rules}}", "judge.panel_rules.margin_below=null")
QUICK += ("synthesize.negative_queries={queries: 3, kept: 2}", "judge.necessity={share: 1}")


def forked(arguments, said, environment):
    """Run in a fork, for what is done is less than what would be imported; the run in peace orders sets otherwise."""
    return Fork(watched_run.main, arguments, str(said), str(said), environment).wait()


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kill")
    manifest, clips = sample_manifest(folder, clips=3), folder / "clips"
    clips.mkdir()
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    for entry in entries:
        entry["uri"] = str(write_beginning(Path(entry["uri"]), clips / Path(entry["uri"]).name, 2.0))
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return Job(
        ("demo", "--input", str(manifest), *(f"--set={setting}" for setting in QUICK)), str(folder), folder, forked
    )


@pytest.fixture(scope="module")
def peace(job):
    return run_in_peace(job)


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    with serving_in_child() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        connect(PipelineOptions([]), s3.root)
        yield s3.root


def test_a_run_killed_while_two_engines_work_repeats_what_was_in_flight_and_ends_with_the_same_bytes(job, peace):
    moments = [Moment(f"start {step}", 2, 0.01) for step in ("caption", "embed_video")]

    trial = try_kills(job, peace, "local", [*moments, Moment("start necessity", 3, 0.0)])

    assert trial.kills == 3
    assert trial.in_flight >= 2
    assert trial.problem == ""
    assert trial.needless == 0
    assert trial.left == 0


def test_a_run_killed_on_an_object_store_while_a_panel_judges_and_while_negatives_are_verified_ends_as_on_a_disk(
    job, peace, bucket
):
    remote = Job((*job.arguments, "--workers", "1"), bucket, job.folder, forked)

    trial = try_kills(remote, peace, "remote", [Moment("start panel", 9, 0.0), Moment("start verify", 5, 0.0)])

    assert trial.kills == 2
    assert trial.problem == ""
    assert trial.needless == 0
    assert trial.left == 0


def test_a_cache_is_copied_without_the_journals_of_steps_that_are_yet_to_run(tmp_path):
    for path in ("frames/ab/c.parquet", "journal/asr/1.jsonl", "journal/judge/1.jsonl"):
        write_bytes(str(tmp_path / "cache" / path), path.encode())

    copy_cache(str(tmp_path / "cache"), str(tmp_path / "copy"), ("decode", "asr"))

    assert list_files(str(tmp_path / "copy")) == ["frames/ab/c.parquet", "journal/asr/1.jsonl"]


def test_a_moment_lies_between_an_event_of_its_step_and_the_next_event():
    steps = ("decode", "decode", "asr", "decode", "over")
    events = [Event(float(index), "start", step, str(index)) for index, step in enumerate(steps)]

    moments = [draw_moment(events, "decode", random.Random(seed)) for seed in range(50)]

    assert {moment.nth for moment in moments} == {1, 2, 3}
    assert all(moment.step == "decode" and 0 <= moment.delay_s <= 1 for moment in moments)
    assert Moment.parse(str(moments[0])).nth == moments[0].nth
