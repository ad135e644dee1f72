"""What ``hardquery status`` says of an output, from its lock and from what a run keeps; never by how old that is."""

import json
import subprocess
import sys
from dataclasses import replace

import msgspec
import pytest

from pipeline.outputs.lock import LOCK, Holder, hold, holder_of
from pipeline.outputs.staging import COMMIT, STAGING, list_output
from runners.cli.main import main
from runners.cli.runs.status import status
from runners.console.kept import StatusFile, read_kept
from runners.console.outlook import outlook
from tests.support.tiny_output import write_tiny
from transforms.progress import StepCount

HALF = outlook({"decode": StepCount(30, 12, first_s=0.0, last_s=24.0)}, {"decode": 30}, lambda _: None, 25.0)


@pytest.fixture
def output(tmp_path):
    return str(tmp_path / "out")


def left_behind(output: str, pid: int) -> None:
    """The lock file of a run that was killed."""
    holder = replace(Holder.of_this_process(), pid=pid)
    with open(f"{output}/{LOCK}", "wb") as file:
        file.write(msgspec.json.encode(holder))


def test_a_run_at_work_is_told_by_its_lock_with_how_far_it_is(output, capsys):
    with hold(output):
        StatusFile(output).show(HALF, [])
        assert main(["status", output]) == 0

    told = capsys.readouterr().out
    assert "running, process" in told
    assert "25 s so far, about 36 s left" in told
    assert "12 of 30" in told


def test_a_run_that_was_stopped_leaves_how_far_it_was(output):
    with hold(output):
        StatusFile(output).show(HALF, [])

    found = status(output)

    assert (found.state, found.kept.seen) == ("stopped", HALF)
    assert "the same command goes on" in found.said


def test_a_killed_run_is_not_at_work_even_where_its_number_is_another_process_now(output):
    StatusFile(output).show(HALF, [])
    with subprocess.Popen([sys.executable, "-c", "pass"]) as ended:
        ended.wait()
    left_behind(output, ended.pid)
    assert (holder_of(output), status(output).state) == (None, "stopped")

    left_behind(output, Holder.of_this_process().pid)
    assert (holder_of(output), status(output).state) == (None, "stopped")


def test_an_output_is_published_and_one_that_is_made_anew_stands_as_it_was(output, tmp_path):
    write_tiny(tmp_path / "out")
    before = list_output(output)
    assert status(output).state == "published"

    with hold(output):
        StatusFile(output).show(HALF, [])
        assert "An earlier output stands as it was" in status(output).said
        assert list_output(output) == before


def test_what_was_made_and_not_published_is_told_from_what_was_cut_short(output, tmp_path):
    write_tiny(tmp_path / "out" / STAGING)
    assert status(output).state == "not published"

    (tmp_path / "out" / STAGING / COMMIT).write_text("0")
    assert "half published" in status(output).said


def test_programs_get_the_state_and_all_counts(output, capsys):
    StatusFile(output).show(HALF, [])

    assert main(["status", "--json", output]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["left_s"], told["steps"][0]["ended"]) == ("stopped", 36.0, 12)


def test_where_nothing_was_run_that_is_said(output, capsys):
    assert main(["status", output]) == 2
    assert "nothing was run into it" in capsys.readouterr().err
    assert read_kept(output) is None
