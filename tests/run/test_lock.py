import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from pipeline.outputs import lock
from pipeline.outputs.errors import OutputError
from pipeline.outputs.lock import LOCK, Holder, LockLost, hold
from tests.support.object_store import ObjectStore
from transforms.storage.files import join, list_files, read_bytes, write_bytes

ROOT = Path(__file__).parents[2]
HOLDING = """
import sys
from pipeline.outputs.lock import hold
with hold(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(lock, "CONTEST_S", 0.0)


@pytest.fixture(params=["disk", "objects"])
def output(request, tmp_path) -> str:
    ObjectStore.objects.clear()
    return str(tmp_path / "out") if request.param == "disk" else "objects://bucket/out"


@pytest.fixture
def bucket() -> str:
    ObjectStore.objects.clear()
    return "objects://bucket/out"


def put(output: str, holder: Holder) -> None:
    write_bytes(join(output, LOCK), msgspec.json.encode(holder))


def other(**changed) -> Holder:
    return replace(Holder.of_this_process(), **{"host": "elsewhere", "pid": 4711, **changed})


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def test_the_lock_says_who_holds_it_and_goes_at_the_end(output):
    with hold(output) as confirm:
        confirm()
        content = json.loads(read_bytes(join(output, LOCK)))
        assert list_files(output) == [LOCK]

    assert (content["pid"], content["host"]) == (os.getpid(), socket.gethostname())
    assert content["started"].endswith("+00:00")
    assert list_files(output) == []


def test_the_lock_does_not_repeat_options_for_they_may_hold_keys(output, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hardquery", "run", "my recipe.yaml", "--s3_secret_access_key=canary", "canary"])

    with hold(output):
        content = json.loads(read_bytes(join(output, LOCK)))

    assert content["command"] == "hardquery run 'my recipe.yaml'"


def test_a_second_run_is_refused_with_the_pid_and_the_host_of_the_first(output):
    with (
        hold(output) as confirm,
        pytest.raises(OutputError, match=rf"in use by process {os.getpid()} on {socket.gethostname()}, since 2"),
        hold(output),
    ):
        pytest.fail("both hold it")

    with hold(output) as confirm:
        confirm()


def test_the_lock_goes_when_the_run_breaks(output):
    with pytest.raises(ZeroDivisionError), hold(output):
        1 / 0  # noqa: B018

    assert list_files(output) == []


def test_only_one_of_many_runs_that_begin_at_once_holds_the_folder(tmp_path):
    start, done, held, refused = threading.Barrier(16), threading.Barrier(16), [], []

    def run() -> None:
        start.wait()
        try:
            with hold(str(tmp_path)):
                held.append(1)
                done.wait()
        except OutputError:
            refused.append(1)
            done.wait()

    threads = [threading.Thread(target=run) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (len(held), len(refused)) == (1, 15)


def test_a_run_that_was_killed_holds_nothing(tmp_path):
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OutputError, match=f"process {holder.pid} on "), hold(str(tmp_path)):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    assert (tmp_path / LOCK).exists()
    with hold(str(tmp_path)) as confirm:
        confirm()
    assert not (tmp_path / LOCK).exists()


def test_a_lock_that_was_removed_by_hand_is_lost(output):
    with hold(output) as confirm:
        os.remove(join(output, LOCK)) if output.startswith("/") else ObjectStore.objects.clear()
        with pytest.raises(LockLost):
            confirm()


@pytest.mark.parametrize(
    "holder",
    [other, lambda: other(seen=ago(200)), lambda: replace(Holder.of_this_process(), started=ago(9000))],
    ids=["now", "200 s ago", "this process"],
)
def test_a_bucket_in_use_is_refused(bucket, holder):
    held = holder()  # not when tests are collected, which may be minutes before
    put(bucket, held)

    with pytest.raises(OutputError, match=rf"process {held.pid} on .* forgotten 5 minutes later"), hold(bucket):
        pass

    assert list_files(bucket) == [LOCK]


@pytest.mark.parametrize("gone", [other(seen=ago(400)), other(host=socket.gethostname(), pid=2**22 + 1)])
def test_the_lock_of_a_run_that_is_gone_is_taken_over(bucket, gone):
    put(bucket, gone)

    with hold(bucket) as confirm:
        confirm()

    assert list_files(bucket) == []


def test_of_two_runs_that_write_their_lock_at_once_the_last_one_wins(bucket, monkeypatch):
    monkeypatch.setattr(lock.time, "sleep", lambda _: put(bucket, other()))

    with pytest.raises(OutputError, match="process 4711 on elsewhere"), hold(bucket):
        pass

    assert json.loads(read_bytes(join(bucket, LOCK)))["pid"] == 4711


def test_a_lock_in_a_bucket_is_refreshed_until_another_run_takes_it(bucket, monkeypatch):
    monkeypatch.setattr(lock, "REFRESH_S", 0.001)
    seen, written = threading.Event(), lock._write

    def write(path: str, holder: Holder) -> None:
        written(path, holder)
        seen.set()

    with hold(bucket) as confirm:
        monkeypatch.setattr(lock, "_write", write)
        assert seen.wait(300)
        confirm()
        taken = other()
        while json.loads(read_bytes(join(bucket, LOCK)))["token"] != taken.token:
            put(bucket, taken)
        with pytest.raises(LockLost, match="taken over"):
            confirm()

    assert json.loads(read_bytes(join(bucket, LOCK)))["pid"] == 4711


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff"])
def test_a_lock_file_that_says_nothing_is_no_obstacle(output, content):
    write_bytes(join(output, LOCK), content)

    with hold(output) as confirm:
        confirm()

    assert list_files(output) == []


def test_a_folder_that_cannot_be_made_is_named_with_its_reason(tmp_path):
    (tmp_path / "file").touch()

    with (
        pytest.raises(OutputError, match=r"file/out' cannot be written to: Not a directory"),
        hold(str(tmp_path / "file" / "out")),
    ):
        pass
