"""What children are asked to do: work, sleep, crash and hang. They import this, and so it imports little."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from transforms.workers.child_limits import memory_bytes


def double(number: int) -> int:
    return 2 * number


def child_pid() -> int:
    return os.getpid()


def segfault() -> None:
    ctypes.string_at(0)


def sleep_in_native_code() -> None:
    ctypes.CDLL(None).sleep(1000)


def hold_the_interpreter() -> None:
    ctypes.PyDLL(None).sleep(1000)


def work_in_native_code() -> None:
    """Backtracking for hours, with the interpreter held."""
    re.match("(a+)+$", 60 * "a" + "b")


def wait_for_a_processor(seconds: float) -> str:
    """As a busy machine would have it: time goes by in which it does not work."""
    time.sleep(seconds)
    return "done"


def exit_with(code: int) -> None:
    os._exit(code)


def leave() -> None:
    sys.exit("bye")


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def block_every_signal(then: Callable[[], None]) -> None:
    """What is left is SIGKILL, which nobody can block."""
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    then()


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def take_memory(share: float) -> int:
    """Ask for a share of the machine's memory, without touching it."""
    return len(bytearray(int(share * memory_bytes())))


def take_memory_in_native_code(share: float) -> bool:
    malloc = ctypes.CDLL(None).malloc
    malloc.argtypes, malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    return malloc(int(share * memory_bytes())) is not None


def oom_score() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


def core_limit() -> tuple[int, int]:
    return resource.getrlimit(resource.RLIMIT_CORE)


_prepared: set[int] = set()


def prepare_with_much_work() -> None:
    began = time.process_time()
    while time.process_time() < began + 0.8:
        pass
    _prepared.add(os.getpid())


def prepared_pids() -> set[int]:
    return _prepared


def refuse(message: str) -> None:
    raise KeyError(message)


class Stubborn(Exception):
    """Pickles but cannot be rebuilt, as errors with more than one argument often cannot."""

    def __init__(self, code: int, message: str):
        super().__init__(message)


def refuse_stubbornly() -> None:
    raise Stubborn(1, "no way")


def time_out_by_itself() -> None:
    raise TimeoutError("the disk is slow")


def environment(name: str) -> str | None:
    return os.environ.get(name)


def shout() -> None:
    print("heard on stdout", flush=True)
    os.write(2, b"heard on stderr")
