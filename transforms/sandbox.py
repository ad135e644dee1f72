"""Running a function where it can do no harm: in a child process with a time limit, free to crash or to hang."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

T = TypeVar("T")


class TimeLimitExceeded(RuntimeError):
    """The function ran past its time limit; its process was killed."""


class WorkerDied(RuntimeError):
    """The process that ran the function ended before it answered: a crash in native code, or killed from outside."""


_NOTICE_INTERRUPT_S = 0.5

_pools: dict[int, ProcessPool] = {}
_pending: set[Future[Any]] = set()
_lock = threading.Lock()


def run_isolated(function: Callable[..., T], *args: object, limit_s: float, workers: int = 1) -> T:
    """Call ``function(*args)`` in one of ``workers`` child processes and return what it returns.

    The children are shared by all threads of this process and live on between calls, so a model that a function loads
    stays loaded. The time limit (seconds) runs from the moment that a child starts on the call. Function, arguments
    and result must be picklable, the function importable by its name.

    Raises:
        TimeLimitExceeded: the child was killed at the limit; only this call is lost.
        WorkerDied: the child crashed, exited or was killed; only this call is lost.
        Exception: whatever the function itself raised, with the child's traceback as a note.
    """
    try:
        ok, value = _ask(function, args, limit_s, workers)
    except BrokenProcessPool:
        # An idle child was killed from outside, and the pool with it; that was none of this call's doing.
        ok, value = _ask(function, args, limit_s, workers)
    if not ok:
        raise value
    result: T = value
    return result


def _ask(function: Callable[..., T], args: tuple[object, ...], limit_s: float, workers: int) -> tuple[bool, Any]:
    """What ``_answer`` says in a child, or how that child ended."""
    future = _submit(function, args, limit_s, workers)
    try:
        # Not one long wait: a Ctrl-C that the kernel hands to another thread is noticed only between two waits.
        while not future.done():
            wait([future], timeout=_NOTICE_INTERRUPT_S)
        answer: tuple[bool, Any] = future.result()
        return answer
    except TimeoutError:
        raise TimeLimitExceeded(f"no answer within {limit_s:g} s; the process was killed") from None
    except ProcessExpired as error:
        raise WorkerDied(f"the process {_cause_of_death(error.exitcode)}") from None
    finally:
        _pending.discard(future)


def shut_down() -> None:
    """End all children now and cancel what they were doing; runs by itself when the interpreter exits.

    Threads that wait in ``run_isolated`` get a CancelledError. Call it on Ctrl-C where such threads are not daemons:
    the interpreter waits for them before it exits.
    """
    with _lock:
        for pool in _pools.values():
            pool.stop()
        for future in tuple(_pending):
            future.cancel()  # after the stop: a running pool would start a new child in place of the cancelled one
        for pool in _pools.values():
            pool.join()
        _pools.clear()


atexit.register(shut_down)


def _submit(function: Callable[..., T], args: tuple[object, ...], limit_s: float, workers: int) -> Future[Any]:
    """Queue one call on the pool of this size, starting the pool when there is none that works."""
    with _lock:
        pool = _pools.get(workers)
        if pool is not None and not pool.active:
            pool.stop()
            pool.join()
            pool = None
        if pool is None:
            spawn = multiprocessing.get_context("spawn")
            pool = ProcessPool(max_workers=workers, initializer=_settle_in, context=spawn)
            _pools[workers] = pool
        with _interrupts_held():
            future: Future[Any] = pool.schedule(_answer, args=(function, args), timeout=limit_s)
        _pending.add(future)
        return future


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start threads and processes with SIGINT blocked, which they inherit: Ctrl-C is the parent's to answer."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _cause_of_death(exitcode: int) -> str:
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _settle_in() -> None:
    """Prepare a child: one native thread, no output, death at once on SIGTERM, no life after the parent's."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = "1"
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for native code to return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _answer(function: Callable[..., T], args: tuple[object, ...]) -> tuple[bool, T | BaseException]:
    """In the child: (True, result) or (False, error)."""
    try:
        return True, function(*args)
    except SystemExit as error:
        return False, WorkerDied(f"the function called sys.exit({error.code!r})")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again in the parent
        error.add_note(f"In the child process:\n{traceback.format_exc()}")
        return False, _picklable(error)


def _picklable(error: Exception) -> Exception:
    """The error itself where it survives the way to the parent, else its name and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error's own __reduce__ or __init__ may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
