import os
import shutil
import signal
import time

import pytest

from transforms.workers import watchdog
from transforms.workers.watchdog import Limit, Watchdog, cpu_time_s, seconds


@pytest.fixture
def machine(monkeypatch):
    """CPU time that the test sets, and a record of who was killed."""

    class Machine:
        def __init__(self):
            self.used_s = 5.0
            self.killed = []

    machine = Machine()
    monkeypatch.setattr(watchdog, "cpu_time_s", lambda pid: machine.used_s)
    monkeypatch.setattr(watchdog.os, "kill", lambda *arguments: machine.killed.append(arguments))
    return machine


@pytest.fixture
def watched(tmp_path, machine) -> Watchdog:
    """A call that has begun and was seen to be prepared, in this very process."""
    watched = Watchdog(tmp_path, Limit(cpu_s=10.0, asleep_s=60.0))
    watched.begin()
    watched.say_prepared()
    watched.look(0.5)
    return watched


KILLED = [(os.getpid(), signal.SIGKILL)]


def test_a_call_that_works_is_left_alone_however_long_it_takes(watched, machine):
    for _ in range(900):
        machine.used_s += 0.01  # a fiftieth of a processor
        watched.look(0.5)
    assert (watched.said, machine.killed) == ("", [])


def test_a_call_that_hardly_works_is_asleep(watched, machine):
    for _ in range(120):
        watched.look(0.5)
    assert machine.killed == []
    watched.look(0.5)
    assert (watched.said, machine.killed) == ("no answer within 60 s asleep", KILLED)


def test_work_undoes_sleep_but_is_no_credit_for_later(watched, machine):
    machine.used_s += 9.0
    for _ in range(100):
        watched.look(0.5)
    machine.used_s += 0.3
    for _ in range(80):
        watched.look(0.5)
    assert machine.killed == []
    for _ in range(2):
        watched.look(0.5)
    assert machine.killed == KILLED


def test_work_beyond_the_limit_and_its_grace_ends_a_call(watched, machine):
    machine.used_s += 10.0 + watchdog.GRACE_S
    watched.look(0.5)
    assert machine.killed == []
    machine.used_s += 0.1
    watched.look(0.5)
    assert (watched.said, machine.killed) == ("no answer within 10 s of CPU time", KILLED)


def test_nothing_counts_before_a_call_begins_nor_after_it_ends(tmp_path, machine):
    watched = Watchdog(tmp_path, Limit(cpu_s=1.0, asleep_s=1.0))
    watched.look(1e9)
    watched.begin()
    watched.say_prepared()
    watched.end()
    machine.used_s = 1e9
    watched.look(1e9)
    assert machine.killed == []


def test_preparing_may_take_an_hour_and_counts_towards_no_limit(tmp_path, machine):
    watched = Watchdog(tmp_path, Limit(cpu_s=1.0, asleep_s=1.0))
    watched.begin()
    watched.look(3600.0)
    machine.used_s += 1800.0
    watched.say_prepared()
    watched.look(1.0)
    assert machine.killed == []


def test_preparing_for_longer_ends_it(tmp_path, machine):
    watched = Watchdog(tmp_path, Limit(cpu_s=1.0))
    watched.begin()
    watched.look(3600.5)
    assert (watched.said, machine.killed) == ("no answer within 3600 s", KILLED)


def _work(cpu_s: float) -> None:
    began = time.process_time()
    while time.process_time() < began + cpu_s:
        pass


def test_the_cpu_time_of_a_process_is_read_from_outside():
    before = cpu_time_s(os.getpid())
    _work(0.5)
    assert 0.4 < cpu_time_s(os.getpid()) - before < 5.0


def test_without_proc_ps_is_asked(monkeypatch):
    if not shutil.which("ps"):
        pytest.skip("there is no ps")
    monkeypatch.setattr(watchdog, "PROC", watchdog.PROC / "absent")
    _work(1.0)
    assert cpu_time_s(os.getpid()) >= 1.0


@pytest.mark.parametrize(
    ("said", "expected"),
    [("00:00:00\n", 0.0), ("  0:01.23", 1.23), ("1-02:03:04", 93_784.0), ("12:34:56", 45_296.0)],
)
def test_cpu_time_is_read_as_ps_writes_it(said, expected):
    assert seconds(said) == pytest.approx(expected)


def test_a_process_that_is_gone_has_no_cpu_time():
    with pytest.raises((OSError, ValueError)):
        cpu_time_s(2**22 + 1)
    with pytest.raises(ValueError, match="could not convert"):
        seconds("")
