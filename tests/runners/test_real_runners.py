"""Real runners on a few clips (make test-runners): Prism, in threads and in a process, gs:// and Dataflow's client.

A run on another runner makes the same bytes as one in this process, and what one has made the other finds.
"""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from benchmarks.kill import Job, run_in_peace, sample_manifest, try_kills
from benchmarks.watched_run import Moment
from tests.support.dataflow_double import serving
from transforms.storage.files import connect
from transforms.storage.local_file import own_folder

pytestmark = pytest.mark.runners

ROOT = Path(__file__).parents[2]
CLIPS = ("flood_valdoro_2", "launch_ostara_1", "tram_linden_2")
OTHERS = ("README.md", "report.html", "manifest.json")  # they say when and where a run was
QUICK = ("extract.asr=null", "extract.ocr=null", "extract.frames.max_frames=2", "curate.alpha1=-0.5")
JAR = "HARDQUERY_FLINK_JOB_SERVER_JAR"


def hardquery(*words: str, expect: int = 0, **environment: str) -> str:
    """Run the command as people do, and return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "runners", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


def run(folder: Path, *options: str) -> str:
    place = ("--input", str(folder.parent / "in"), "--output", str(folder / "out"), "--cache", str(folder / "cache"))
    return hardquery("run", "demo", *place, *options)


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in (folder / "out").rglob("*") if path.is_file() and path.name not in OTHERS)
    return {str(path.relative_to(folder / "out")): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def records(folder: Path) -> dict[str, int]:
    journal = folder / "cache" / "journal"
    return {
        each.name: sum(len(path.read_bytes().splitlines()) for path in each.iterdir()) for each in journal.iterdir()
    }


def command_line(pid: int) -> str:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def below(pid: int) -> list[int]:
    """The children of a process, and theirs."""
    found = []
    for task in (Path("/proc") / str(pid)).glob("task/*/children"):
        with suppress(OSError):
            found += [each for child in map(int, task.read_text().split()) for each in (child, *below(child))]
    return found


def processes(of: str) -> list[str]:
    """The command lines of all processes that run a program."""
    lines = [command_line(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [line for line in lines if of in line.split(" ")[0]]


@pytest.fixture(scope="module")
def here(tmp_path_factory) -> Path:
    """A run in this process."""
    base = tmp_path_factory.mktemp("runs")
    (base / "in").mkdir()
    for clip in CLIPS:
        for path in (ROOT / "samples" / "videos").glob(f"{clip}.*"):
            shutil.copy(path, base / "in")
    (base / "here").mkdir()
    run(base / "here", "--workers", "2")
    return base / "here"


@pytest.mark.parametrize("environment", ["LOOPBACK", "PROCESS"])
def test_prism_makes_the_same_bytes_and_leaves_no_process_behind(here, environment):
    folder = here.parent / environment
    run(folder, "--runner", "prism", "--environment_type", environment)

    assert hashes(folder) == hashes(here)
    assert records(folder) == records(here)
    assert processes("prism") == []
    before = records(folder)
    run(folder, "--runner", "prism", "--environment_type", environment, "--force")
    assert records(folder) == before  # nothing is done or paid for twice
    assert hashes(folder) == hashes(here)


def test_a_worker_process_that_is_killed_costs_no_more_than_what_it_had_in_flight(here):
    folder = here.parent / "killed"
    place = ("--input", str(folder.parent / "in"), "--output", str(folder / "out"), "--cache", str(folder / "cache"))
    options = ("--runner", "prism", "--environment_type", "PROCESS", "--workers", "1")
    command = [sys.executable, "-m", "runners", "run", "demo", *place, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as driver:
        while driver.poll() is None and not list((folder / "cache" / "journal").glob("ocr/*")):
            time.sleep(0.2)
        workers = [pid for pid in below(driver.pid) if "sdk_worker_main" in command_line(pid)]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        said = driver.stdout.read()
    assert len(workers) == 1
    assert driver.returncode == 1, said
    assert "SDK worker disconnected" in said

    run(folder, *options)

    assert hashes(folder) == hashes(here)
    again = {step: count - records(here)[step] for step, count in records(folder).items()}
    assert set(again.values()) <= {0, 1}  # one video was worked on at a time
    before = records(folder)
    run(folder, "--force", *options)
    assert records(folder) == before


@pytest.mark.skipif(JAR not in os.environ, reason=f"set {JAR} to Beam's job server for Flink")
def test_flink_makes_the_same_bytes(here):
    folder = here.parent / "flink"
    run(folder, "--runner", "flink")
    assert hashes(folder) == hashes(here)
    assert records(folder) == records(here)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """The address of an empty Cloud Storage on this machine, with a bucket ``b``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = os.environ.get("HARDQUERY_GCS_EMULATOR", str(ROOT / ".venv-gcs" / "bin" / "gcp-storage-emulator"))
    options = ["start", "--host=127.0.0.1", f"--port={port}", "--in-memory", "--default-bucket=b"]
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as emulator:
        try:
            for _ in range(600):
                with socket.socket() as asked:
                    if asked.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert emulator.poll() is None
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            emulator.kill()


def client_of(store: str) -> Any:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", store)
        return storage.Client(project="p", credentials=AnonymousCredentials())


def put_clips(store: str, folder: Path) -> None:
    """Have the clips of a folder lie in gs://b/in."""
    for path in folder.iterdir():
        client_of(store).bucket("b").blob(f"in/{path.name}").upload_from_filename(str(path))


def objects(store: str) -> dict[str, bytes]:
    return {each.name: each.download_as_bytes() for each in client_of(store).list_blobs("b")}


def other_than(here: Path, found: dict[str, bytes], output: str) -> set[str]:
    """The tables, and files, of a run here that are not the same in an output of the bucket."""
    made = {name: hashlib.sha256(data).hexdigest() for name, data in found.items()}
    return {name.partition("/")[0] for name, value in hashes(here).items() if made.get(f"{output}/{name}") != value}


def records_of(found: dict[str, bytes], cache: str) -> dict[str, int]:
    """The records by step of a cache in the bucket."""
    counts: Counter[str] = Counter()
    for name, data in found.items():
        if name.startswith(f"{cache}/journal/"):
            counts[name.split("/")[2]] += len(data.splitlines())
    return dict(counts)


def test_a_run_on_cloud_storage_is_the_same_but_for_addresses_and_a_second_one_pays_nothing(here, store, tmp_path):
    where = {"STORAGE_EMULATOR_HOST": store, "NO_GCE_CHECK": "true", "XDG_CACHE_HOME": str(tmp_path)}
    put_clips(store, here.parent / "in")
    command = ("run", "demo", "--input=gs://b/in", "--output=gs://b/out", "--cache=gs://b/cache", "--no_auth")
    hardquery(*command, "--workers", "2", **where)

    first = objects(store)
    assert other_than(here, first, "out") == {"videos"}  # which hold addresses
    lines = records_of(first, "cache")
    assert lines == records(here)

    hardquery("cache", "compact", "--cache", "gs://b/cache", **where)
    hardquery(*command, **where)
    again = objects(store)
    assert {name: data for name, data in again.items() if name.startswith("out/videos")} == {
        name: data for name, data in first.items() if name.startswith("out/videos")
    }
    segments = [name for name in again if "journal/" in name]
    assert len(segments) == len(records(here))
    assert sum(len(again[name].splitlines()) for name in segments) == sum(lines.values())


def test_a_run_that_is_killed_on_cloud_storage_ends_as_one_that_was_not(store, tmp_path, monkeypatch):
    monkeypatch.setattr(FileSystems, "_pipeline_options", None)
    for name, value in {"STORAGE_EMULATOR_HOST": store, "NO_GCE_CHECK": "true"}.items():
        monkeypatch.setenv(name, value)
    connect(PipelineOptions(["--no_auth"]), "gs://b")
    said = ("demo", "--input", str(sample_manifest(tmp_path, clips=3)), *(f"--set={setting}" for setting in QUICK))
    peace = run_in_peace(Job(said, str(tmp_path), tmp_path))

    remote = Job((*said, "--workers", "1", "--no_auth"), "gs://b", tmp_path)
    trial = try_kills(remote, peace, "killed", [Moment("start judge", 9, 0.0), Moment("end publish", 2, 0.0)])

    assert trial.kills == 2
    assert trial.problem == ""
    assert trial.needless == 0
    assert trial.left == 0


def test_what_is_submitted_to_a_double_of_dataflow_makes_the_same_bytes_from_the_graph_that_was_staged(
    here, store, tmp_path, monkeypatch
):
    (tmp_path / "hardquery").mkdir()
    (tmp_path / "hardquery" / "bin").symlink_to(Path(own_folder()) / "bin")  # Beam's programs
    for name, value in {
        "STORAGE_EMULATOR_HOST": store,
        "NO_GCE_CHECK": "true",
        "XDG_CACHE_HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    place = ("--project=some-project", "--region=europe-west4", "--temp_location=gs://b/tmp", "--no_auth")
    command = ("run", "demo", "--input=gs://b/in", "--output=gs://b/far", "--cache=gs://b/far-cache")
    image = "--sdk_container_image=europe-docker.pkg.dev/some-project/images/hardquery"
    put_clips(store, here.parent / "in")
    with serving() as dataflow:
        endpoint = f"--dataflow_endpoint={dataflow.address}"
        said = hardquery(*command, "--runner=dataflow", *place, image, endpoint)
        (job,) = dataflow.jobs.values()
    assert job["currentState"] == "JOB_STATE_DONE"
    assert job["id"] in said

    found = objects(store)
    assert other_than(here, found, "far") == {"videos"}
    assert records_of(found, "far-cache") == records(here)
    image_of_pools = {
        pool["sdkHarnessContainerImages"][0]["containerImage"] for pool in job["environment"]["workerPools"]
    }
    assert image_of_pools == {image.partition("=")[2]}
    assert processes("prism") == []


def test_what_dataflow_is_given_has_hints_by_step_and_one_image(tmp_path, monkeypatch):
    from apache_beam.portability.api import beam_runner_api_pb2
    from apache_beam.runners.dataflow.internal import apiclient

    from pipeline.run import build
    from runners import local
    from runners.remote.rooms import choose
    from tests.runners.test_job_spec import GPU, IMAGE, hints_of, job_of

    place = ("--project=some-project", "--region=europe-west4", "--temp_location=gs://bucket/tmp")
    flags = ("--runner=dataflow", *place, f"--sdk_container_image={IMAGE}", "--no_auth", "--dry_run=True")
    options = choose(flags).options
    pipeline = local.make_pipeline(options)
    build(pipeline, job_of(tmp_path), "objects://bucket/cache/inputs/list.jsonl")
    job = pipeline.run().job

    hinted = {
        name.split("/")[1] for name, hints in hints_of(job.proto_pipeline).items() if GPU.encode() in hints.values()
    }
    assert hinted == {"asr"}
    images = {
        beam_runner_api_pb2.DockerPayload.FromString(environment.payload).container_image
        for environment in job.proto_pipeline.components.environments.values()
    }
    assert images == {IMAGE}
    sent = apiclient.Environment(
        packages=[],
        options=job.options,
        environment_version="8",
        proto_pipeline_staged_url="gs://bucket/p.pb",
        proto_pipeline=job.proto_pipeline,
    ).proto
    assert str(tmp_path) not in str(sent)
    assert str(Path.home()) not in str(sent.sdk_pipeline_options)
    assert IMAGE in str(sent.worker_pools)
