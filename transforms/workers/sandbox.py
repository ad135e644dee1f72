"""Running a function where it can do no harm: in a child process with a limit, free to crash or to hang."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from textwrap import indent
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from transforms.workers.child_limits import limit_this_process
from transforms.workers.watchdog import Limit, Watchdog, used_up

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class TimeLimitExceeded(RuntimeError):
    """The function used more CPU time than it may, or slept for too long; its process was killed."""


class WorkerDied(RuntimeError):
    """The process that ran the function ended before it answered: a crash in native code, or killed from outside.

    ``crashed`` is true where the signal is one that a fault in native code raises, and nobody sends from outside.
    """

    def __init__(self, message: str, crashed: bool = False) -> None:
        super().__init__(message)
        self.crashed = crashed


class PreparationFailed(RuntimeError):
    """The child could not be prepared for the function, which was never called."""


_LOOK_S = 0.5

_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, getattr(signal, "SIGBUS", signal.SIGABRT)}
_SPENT = int(getattr(signal, "SIGPROF", 0))

_pools: dict[int, ProcessPool] = {}
_pending: set[Future[Any]] = set()
_lock = threading.Lock()


def run_isolated(
    function: Callable[..., T],
    *args: object,
    limit: Limit,
    workers: int = 1,
    prepare: Callable[[], object] | None = None,
) -> T:
    """Call ``function(*args)`` in one of ``workers`` child processes and return what it returns.

    The children are shared by all threads of this process and live on between calls, so a model that a function loads
    stays loaded. ``prepare`` is called first, in the same child; it may take an hour, and counts towards no limit.
    Functions, arguments and result must be picklable, the functions importable by their names.

    Raises:
        TimeLimitExceeded: the child was killed at its limit; only this call is lost.
        MemoryError: it asked for more than a child may have; only this call is lost.
        WorkerDied: the child crashed, exited or was killed; only this call is lost.
        PreparationFailed: ``prepare`` raised an error, took too long, or its child died of it.
        Exception: whatever the function itself raised, with the child's traceback as a note.
    """
    call = _Call(function, args, limit, prepare)
    try:
        ok, value = _ask(call, workers)
    except BrokenProcessPool:
        # An idle child was killed from outside, and the pool with it; that was none of this call's doing.
        ok, value = _ask(call, workers)
    if not ok:
        raise value
    result: T = value
    return result


@dataclass(frozen=True)
class _Call:
    """What a child is asked to do."""

    function: Callable[..., Any]
    args: tuple[object, ...]
    limit: Limit
    prepare: Callable[[], object] | None


def _ask(call: _Call, workers: int) -> tuple[bool, Any]:
    """What ``_answer`` says in a child, or how that child ended."""
    # After a Ctrl-C the child may still write there while it is removed.
    with tempfile.TemporaryDirectory(prefix="hardquery-", ignore_cleanup_errors=True) as folder:
        watchdog = Watchdog(Path(folder), call.limit)  # a dead child cannot say how far it got; its files can
        future = _submit(call, watchdog, workers)
        try:
            # Not one long wait: a Ctrl-C that the kernel hands to another thread is noticed only between two waits.
            while not future.done():  # which a cancelled one is, and ``wait`` would not say
                if wait([future], timeout=_LOOK_S).not_done:
                    watchdog.look(_LOOK_S)
            answer: tuple[bool, Any] = future.result()
            return answer
        except ProcessExpired as error:
            ended_itself = error.exitcode == -_SPENT and watchdog.prepared
            exceeded = watchdog.said or (used_up(call.limit) if ended_itself else "")
            end = f"{exceeded}; the process was killed" if exceeded else _cause_of_death(error.exitcode)
            crashed = -error.exitcode in _CRASHES
        finally:
            _pending.discard(future)
        if call.prepare is not None and not watchdog.prepared:
            raise PreparationFailed(end)
    raise TimeLimitExceeded(end) if exceeded else WorkerDied(end, crashed)


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


def _submit(call: _Call, watchdog: Watchdog, workers: int) -> Future[Any]:
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
            future: Future[Any] = pool.schedule(_answer, args=(call, watchdog))
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
        return f"the process exited with code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"the process was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def _settle_in() -> None:
    """Prepare a child: one native thread, no output, bounded memory, death at once on SIGTERM and with the parent."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = "1"
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for native code to return
    if _SPENT:
        signal.signal(_SPENT, signal.SIG_DFL)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    limit_this_process()
    parent = multiprocessing.parent_process()
    if parent is not None:
        _die_with(parent.sentinel)
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    """Have the kernel send SIGIO, which ends the process, when the other end of this pipe is closed.

    A thread could not act while native code holds the interpreter's lock; PR_SET_PDEATHSIG would strike as soon as the
    *thread* ends that started this process. Linux only: elsewhere SIGIO is ignored.
    """
    if not sys.platform.startswith("linux"):
        return
    import fcntl

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)


def _follow(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _bounded(cpu_s: float) -> Iterator[None]:
    """Death when this process has used so much CPU time, in native code too: SIGPROF's default needs no interpreter."""
    if not _SPENT:
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _answer(call: _Call, watchdog: Watchdog) -> tuple[bool, Any]:
    """In the child: (True, result) or (False, error)."""
    watchdog.begin()
    try:
        return _prepared_answer(call, watchdog)
    finally:
        watchdog.end()


def _prepared_answer(call: _Call, watchdog: Watchdog) -> tuple[bool, Any]:
    try:
        if call.prepare is not None:
            call.prepare()
        watchdog.say_prepared()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it would meet every call
        failed = PreparationFailed(f"{type(error).__name__}: {error}")
        return False, _noted(failed)
    try:
        with _bounded(call.limit.cpu_s):
            return True, call.function(*call.args)
    except MemoryError as error:
        return False, _noted(MemoryError(str(error) or "no memory was left for the child process"))
    except SystemExit as error:
        return False, WorkerDied(f"the function called sys.exit({error.code!r})")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again in the parent
        return False, _picklable(_noted(error))


def _noted(error: E) -> E:
    """The error, with the traceback of the one being handled as a note."""
    error.add_note(f"In the child process:\n{indent(traceback.format_exc(), '    ')}")
    return error


def _picklable(error: Exception) -> Exception:
    """The error itself where it survives the way to the parent, else its name and message."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error's own __reduce__ or __init__ may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
