import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.support.in_a_child import (
    Stubborn,
    block_every_signal,
    child_pid,
    core_limit,
    double,
    environment,
    exit_with,
    hold_the_interpreter,
    ignore_sigterm,
    kill_self,
    leave,
    oom_score,
    prepare_with_much_work,
    prepared_pids,
    refuse,
    refuse_stubbornly,
    segfault,
    shout,
    sleep_in_native_code,
    take_memory,
    take_memory_in_native_code,
    time_out_by_itself,
    wait_for_a_processor,
    work_in_native_code,
)
from transforms.workers.sandbox import PreparationFailed, TimeLimitExceeded, WorkerDied, run_isolated, shut_down
from transforms.workers.watchdog import Limit

LIMIT = Limit(60.0)
BRIEF = Limit(60.0, asleep_s=0.3)  # for what sleeps
WAIT_S = 300.0  # which only a hang meets


def test_a_function_runs_in_a_child_that_is_used_again():
    first = run_isolated(child_pid, limit=LIMIT)
    assert first != os.getpid()
    assert run_isolated(double, 21, limit=LIMIT) == 42
    assert run_isolated(child_pid, limit=LIMIT) == first


def test_the_functions_own_error_is_raised_with_the_childs_traceback():
    with pytest.raises(KeyError, match="spade") as raised:
        run_isolated(refuse, "spade", limit=LIMIT)
    assert "in refuse" in raised.value.__notes__[0]


def test_an_error_that_cannot_be_rebuilt_comes_back_by_name_and_message():
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(Stubborn(1, "no way")))
    with pytest.raises(RuntimeError, match="Stubborn: no way"):
        run_isolated(refuse_stubbornly, limit=LIMIT)


def test_the_functions_own_timeout_is_not_the_time_limit():
    with pytest.raises(TimeoutError, match="disk is slow"):
        run_isolated(time_out_by_itself, limit=LIMIT)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (segfault, (), "SIGSEGV"),
        (kill_self, (), r"SIGKILL \(out of memory\?\)"),
        (exit_with, (3,), "exited with code 3"),
        (leave, (), "sys.exit"),
    ],
)
def test_a_child_that_dies_costs_only_its_own_call(function, args, message):
    with ThreadPoolExecutor(3) as threads:
        others = [threads.submit(run_isolated, double, n, limit=LIMIT) for n in range(3)]
        with pytest.raises(WorkerDied, match=message):
            run_isolated(function, *args, limit=LIMIT)
        assert [other.result() for other in others] == [0, 2, 4]
    assert run_isolated(double, 4, limit=LIMIT) == 8


def test_a_child_that_works_too_long_is_killed_at_the_limit_and_costs_only_its_own_call():
    assert run_isolated(double, 1, limit=LIMIT) == 2
    with pytest.raises(TimeLimitExceeded, match=r"no answer within 0\.3 s of CPU time; the process was killed"):
        run_isolated(work_in_native_code, limit=Limit(0.3))
    assert run_isolated(double, 4, limit=LIMIT) == 8


def test_a_call_that_waits_for_a_processor_is_not_over_its_limit():
    assert run_isolated(wait_for_a_processor, 1.0, limit=Limit(0.3)) == "done"


@pytest.mark.parametrize("function", [sleep_in_native_code, hold_the_interpreter])
@pytest.mark.parametrize("prepare", [child_pid, None])
def test_a_child_that_sleeps_for_good_is_killed_and_costs_only_its_own_call(function, prepare):
    assert run_isolated(double, 1, limit=LIMIT) == 2
    with pytest.raises(TimeLimitExceeded, match=r"no answer within 0\.3 s asleep; the process was killed"):
        run_isolated(function, limit=BRIEF, prepare=prepare)
    assert run_isolated(double, 4, limit=LIMIT) == 8


@pytest.mark.parametrize(
    ("function", "limit", "message"),
    [(work_in_native_code, Limit(0.3), r"0\.3 s of CPU time"), (hold_the_interpreter, BRIEF, r"0\.3 s asleep")],
)
def test_a_child_that_no_signal_reaches_is_killed_soon_after_the_limit(monkeypatch, function, limit, message):
    monkeypatch.setattr("transforms.workers.watchdog.GRACE_S", 0.2)
    with pytest.raises(TimeLimitExceeded, match=message):
        run_isolated(block_every_signal, function, limit=limit)
    assert run_isolated(double, 4, limit=LIMIT) == 8


def test_a_child_that_ignores_sigterm_is_killed_all_the_same():
    run_isolated(ignore_sigterm, limit=LIMIT)
    with pytest.raises(TimeLimitExceeded, match=r"0\.3 s"):
        run_isolated(hold_the_interpreter, limit=BRIEF)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are Linux's")
def test_a_child_that_asks_for_too_much_memory_costs_only_its_own_call():
    with pytest.raises(MemoryError, match="no memory was left for the child process"):
        run_isolated(take_memory, 0.9, limit=LIMIT)
    assert not run_isolated(take_memory_in_native_code, 0.9, limit=LIMIT)
    assert run_isolated(take_memory_in_native_code, 0.1, limit=LIMIT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limits are Linux's")
def test_the_kernel_kills_a_child_before_its_parent_and_no_crash_fills_the_disk():
    assert run_isolated(oom_score, limit=LIMIT) == 1000
    assert oom_score() < 1000
    assert run_isolated(core_limit, limit=LIMIT) == (0, 0)


def test_preparing_has_its_own_time_and_happens_in_the_same_child():
    prepared = run_isolated(prepared_pids, limit=Limit(0.5), prepare=prepare_with_much_work)
    assert prepared == {run_isolated(child_pid, limit=LIMIT)}


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (partial(refuse, "spade"), "KeyError: 'spade'"),
        (partial(exit_with, 3), "exited with code 3"),
        (segfault, "SIGSEGV"),
        (sleep_in_native_code, r"no answer within 0\.1 s; the process was killed"),
    ],
)
def test_a_child_that_cannot_be_prepared_is_told_from_a_call_that_fails(monkeypatch, prepare, message):
    if prepare is sleep_in_native_code:
        monkeypatch.setattr("transforms.workers.watchdog.PREPARATION_LIMIT_S", 0.1)
    with pytest.raises(PreparationFailed, match=message):
        run_isolated(double, 1, limit=LIMIT, prepare=prepare)
    monkeypatch.undo()
    with pytest.raises(WorkerDied, match="code 3"):
        run_isolated(exit_with, 3, limit=LIMIT, prepare=child_pid)


def test_a_child_killed_while_idle_is_replaced():
    os.kill(run_isolated(child_pid, limit=LIMIT), signal.SIGKILL)
    assert run_isolated(double, 4, limit=LIMIT) == 8


def test_children_use_one_native_thread_and_print_nothing(capfd):
    assert run_isolated(environment, "OMP_NUM_THREADS", limit=LIMIT) == "1"
    run_isolated(shout, limit=LIMIT)
    assert capfd.readouterr() == ("", "")


def test_shutting_down_releases_the_threads_that_wait():
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run_isolated, sleep_in_native_code, limit=LIMIT)
        run_isolated(double, 1, limit=LIMIT, workers=2)
        while not waiting.running():
            pass
        child = run_isolated(child_pid, limit=LIMIT, workers=2)
        shut_down()
        with pytest.raises(CancelledError):
            waiting.result(timeout=WAIT_S)
    assert _wait_until_dead(child)
    assert run_isolated(double, 4, limit=LIMIT) == 8


# Whoever runs these tests in the background may have interrupts ignored, which the parent would inherit.
PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, {root!r})
from tests.support.in_a_child import child_pid, hold_the_interpreter
from transforms.workers.sandbox import run_isolated
from transforms.workers.watchdog import Limit
if __name__ == "__main__":
    print(run_isolated(child_pid, limit=Limit(60)), flush=True)
    if "busy" in sys.argv:
        run_isolated(hold_the_interpreter, limit=Limit(60))
"""


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_until_dead(pid: int) -> bool:
    gone = threading.Event()
    for _ in range(2400):
        if not _is_alive(pid):
            return True
        gone.wait(0.05)
    return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("how", ["exit", "interrupt", "kill"])
def test_no_child_outlives_its_parent(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(root=str(Path(__file__).parents[2])))
    command = [sys.executable, str(script)] + (["busy"] if how != "exit" else [])
    # Its own process group, so that the interrupt reaches parent and child as a Ctrl-C on a terminal would.
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0)
    child = int(parent.stdout.readline())
    if how == "interrupt":
        os.killpg(parent.pid, signal.SIGINT)
    elif how == "kill":
        parent.kill()
    _, errors = parent.communicate(timeout=300)
    assert _wait_until_dead(child)
    assert errors.count("Traceback") == (1 if how == "interrupt" else 0), errors
