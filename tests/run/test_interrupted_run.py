"""What a run that is refused, interrupted or out of room says and leaves behind, through the command line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest

from pipeline.outputs.lock import LOCK
from pipeline.outputs.manifest import manifest_sha256
from pipeline.outputs.staging import COMMIT, STAGING
from pipeline.outputs.verify.verify import verify
from runners.cli.main import main
from tests.support.tiny_output import tiny_rows, write_tiny
from transforms.emit.shards import ShardCounts
from transforms.emit.write_shards import WriteShards
from transforms.journal.journal import Journal
from transforms.journal.segments import CannotJournal
from transforms.storage import files
from transforms.storage.files import list_files


@pytest.fixture
def earlier(tmp_path) -> Path:
    """A finished output of an earlier run."""
    write_tiny(tmp_path / "out")
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path: (folder / path).read_bytes() for path in list_files(str(folder))}


def cut_short(monkeypatch, output: Path, samples: Path, work) -> int:
    """The run command with ``work(staging folder)`` in the place of the stages; Ctrl-C if it returns."""

    def run(*_):
        work(output / STAGING)
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.run.build", lambda *_, **__: [])
    monkeypatch.setattr("runners.local.run", run)
    return main(["run", "demo", "--input", str(samples / "videos"), "--output", str(output)])


def test_a_run_holds_the_folder_and_leaves_the_earlier_output_alone(earlier, samples, monkeypatch, capsys):
    before = contents(earlier)
    (earlier / STAGING / "videos").mkdir(parents=True)
    (earlier / STAGING / "videos" / "leftover").touch()

    def work(staging: Path) -> None:
        assert not staging.exists()
        assert {path: data for path, data in contents(earlier).items() if path != LOCK} == before
        assert verify(str(earlier)) == []
        assert main(["run", "demo", "--input", str(samples / "videos"), "--output", str(earlier)]) == 2
        assert f"in use by process {os.getpid()} on" in capsys.readouterr().err

    assert cut_short(monkeypatch, earlier, samples, work) == 130

    assert "the same command continues" in capsys.readouterr().err
    assert contents(earlier) == before


def test_a_publication_that_was_interrupted_is_finished_before_anything_else(earlier, samples, monkeypatch, capsys):
    write_tiny(earlier / STAGING)
    (earlier / "README.md").write_text("to be replaced")
    (earlier / STAGING / COMMIT).write_text(manifest_sha256(str(earlier / STAGING)))
    assert main(["verify", str(earlier)]) == 2
    assert "half published" in capsys.readouterr().err

    def work(_: Path) -> None:
        assert verify(str(earlier)) == []

    assert cut_short(monkeypatch, earlier, samples, work) == 130

    assert verify(str(earlier)) == []


def test_a_run_whose_last_results_cannot_be_recorded_publishes_nothing(earlier, samples, monkeypatch, capsys):
    before = contents(earlier)

    def refuse(_: Journal) -> None:
        raise CannotJournal("cannot send the journal to s3://bucket/cache: 403 Forbidden")

    monkeypatch.setattr("pipeline.run.build", lambda *_, **__: [])
    monkeypatch.setattr("runners.local.run", lambda *_: None)
    monkeypatch.setattr(Journal, "close", refuse)
    assert main(["run", "demo", "--input", str(samples / "videos"), "--output", str(earlier)]) == 1
    assert "403 Forbidden" in capsys.readouterr().err
    assert contents(earlier) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_one_line_that_names_the_file_and_leaves_the_earlier_output_sound(
    earlier, samples, monkeypatch, capsys
):
    before = contents(earlier)

    def full(path, mode):
        return open("/dev/full" if STAGING in path and mode == "wb" else path, mode)

    def work(staging: Path) -> None:
        monkeypatch.setattr(files, "open", full, raising=False)
        with beam.Pipeline() as pipeline:
            _ = {"videos": pipeline | beam.Create(tiny_rows()["videos"])} | WriteShards(str(staging), ShardCounts(1, 1))

    assert cut_short(monkeypatch, earlier, samples, work) == 1

    said = " ".join(capsys.readouterr().err.split())
    path = earlier / STAGING / "videos" / "part-00000-of-00001.parquet"
    assert f"No space left on device: '{path}'; make room there" in said
    assert "is as it was before the run; the same command continues" in said
    assert contents(earlier) == before


# Commands in turn, each in a fork of a process that has imported what they share: what each said, and its exit code.
IN_TURN = """
import json, os, sys
import runners.job
from runners.cli.main import main
for number, arguments in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if not child:
        os.dup2(os.open(f"{number}.txt", os.O_WRONLY | os.O_CREAT), 2)
        os._exit(main(arguments))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_read_only_folder_is_one_line_that_names_the_fix(samples, tmp_path):
    (tmp_path / "ro" / "out").mkdir(parents=True)
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0"'
    space = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*space, read_only, str(tmp_path / "ro")], check=False).returncode:
        pytest.skip("needs a read-only mount")
    messages = {
        ("ro/out", "rw/cache"): "--output '{ro}/out' cannot be written to: Read-only file system; make it writable",
        ("ro/new", "rw/cache"): "--output '{ro}/new' cannot be written to: Read-only file system; make it writable",
        ("rw/out", "ro/cache"): "(--cache '{ro}/cache') cannot be written to: [Errno 30] Read-only file system",
    }
    run = ["run", "demo", "--input", str(samples / "videos")]
    runs = [[*run, "--output", f"{tmp_path}/{out}", "--cache", f"{tmp_path}/{cache}"] for out, cache in messages]

    command = [*space, f'{read_only} && exec "$@"', str(tmp_path / "ro"), sys.executable, "-c", IN_TURN]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    ended = subprocess.run(
        [*command, json.dumps(runs)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    assert ended.stdout.split() == ["2"] * len(runs)
    for number, message in enumerate(messages.values()):
        assert message.format(ro=tmp_path / "ro") in (tmp_path / f"{number}.txt").read_text().splitlines()[-1]
