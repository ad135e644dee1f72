"""Running a function where it can do no harm: in a child process with a time limit, free to crash or to hang."""

from __future__ import annotations

import atexit
import math
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from textwrap import indent
from typing import Any, TypeVar

from pebble import ProcessExpired, ProcessPool

from transforms.workers.child_limits import limit_this_process

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class TimeLimitExceeded(RuntimeError):
    """The function ran past its time limit; its process was killed."""


class WorkerDied(RuntimeError):
    """The process that ran the function ended before it answered: a crash in native code, or killed from outside."""


class PreparationFailed(RuntimeError):
    """The child could not be prepared for the function, which was never called."""


# A model of gigabytes may have to be downloaded first, and by one child after the other.
PREPARATION_LIMIT_S = 3600.0
_NOTICE_INTERRUPT_S = 0.5
# A child kills itself at its limit. One that cannot, because its signals are blocked, is killed this much later.
_GRACE_S = 5.0

_ALARM = int(getattr(signal, "SIGALRM", 0))

_pools: dict[int, ProcessPool] = {}
_pending: set[Future[Any]] = set()
_lock = threading.Lock()


def run_isolated(
    function: Callable[..., T],
    *args: object,
    limit_s: float,
    workers: int = 1,
    prepare: Callable[[], object] | None = None,
) -> T:
    """Call ``function(*args)`` in one of ``workers`` child processes and return what it returns.

    The children are shared by all threads of this process and live on between calls, so a model that a function loads
    stays loaded. ``prepare`` is called first, in the same child; it may take an hour, and only then does the time limit
    (seconds) begin. Functions, arguments and result must be picklable, the functions importable by their names.

    Raises:
        TimeLimitExceeded: the child was killed at the limit; only this call is lost.
        MemoryError: it asked for more than a child may have; only this call is lost.
        WorkerDied: the child crashed, exited or was killed; only this call is lost.
        PreparationFailed: ``prepare`` raised an error, took too long, or its child died of it.
        Exception: whatever the function itself raised, with the child's traceback as a note.
    """
    call = _Call(function, args, limit_s, prepare)
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
    limit_s: float
    prepare: Callable[[], object] | None


def _ask(call: _Call, workers: int) -> tuple[bool, Any]:
    """What ``_answer`` says in a child, or how that child ended."""
    with tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        prepared = Path(folder) / "prepared"  # a dead child cannot say how far it got; this file can
        future = _submit(call, prepared, workers)
        deadline, overdue = math.inf, False
        try:
            # Not one long wait: a Ctrl-C that the kernel hands to another thread is noticed only between two waits.
            while not future.done():
                wait([future], timeout=_NOTICE_INTERRUPT_S)
                if deadline == math.inf and prepared.exists():
                    deadline = time.monotonic() + call.limit_s + _GRACE_S
                if time.monotonic() > deadline and not overdue:
                    overdue = True
                    with suppress(ProcessLookupError):
                        os.kill(int(prepared.read_text()), signal.SIGKILL)
            answer: tuple[bool, Any] = future.result()
            return answer
        except TimeoutError:
            end, out_of_time = f"no answer within {PREPARATION_LIMIT_S:g} s; the process was killed", True
        except ProcessExpired as error:
            end, out_of_time = f"the process {_cause_of_death(error.exitcode)}", overdue or error.exitcode == -_ALARM
        finally:
            _pending.discard(future)
        if call.prepare is not None and not prepared.exists():
            raise PreparationFailed(end)
    if out_of_time:
        raise TimeLimitExceeded(f"no answer within {call.limit_s:g} s; the process was killed")
    raise WorkerDied(end)


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


def _submit(call: _Call, prepared: Path, workers: int) -> Future[Any]:
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
            # Once prepared, the child watches the clock itself; the pool's limit is for one that is not, or cannot.
            spare_s = PREPARATION_LIMIT_S if call.prepare else 0.0
            future: Future[Any] = pool.schedule(_answer, args=(call, prepared), timeout=call.limit_s + spare_s)
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
    """Prepare a child: one native thread, no output, bounded memory, death at once on SIGTERM and with the parent."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
        os.environ[name] = "1"
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a Python handler would wait for native code to return
    if _ALARM:
        signal.signal(_ALARM, signal.SIG_DFL)
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
def _alarm(limit_s: float) -> Iterator[None]:
    """Death at the limit, in native code too: the default action of SIGALRM needs no interpreter."""
    if not _ALARM:
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(call: _Call, prepared: Path) -> tuple[bool, Any]:
    """In the child: (True, result) or (False, error)."""
    try:
        if call.prepare is not None:
            call.prepare()
        _say_prepared(prepared)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it would meet every call
        failed = PreparationFailed(f"{type(error).__name__}: {error}")
        return False, _noted(failed)
    try:
        with _alarm(call.limit_s):
            return True, call.function(*call.args)
    except MemoryError as error:
        return False, _noted(MemoryError(str(error) or "no memory was left for the child process"))
    except SystemExit as error:
        return False, WorkerDied(f"the function called sys.exit({error.code!r})")
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised again in the parent
        return False, _picklable(_noted(error))


def _say_prepared(file: Path) -> None:
    """Write this process's id to ``file``, at once or not at all."""
    draft = file.with_suffix(".draft")
    draft.write_text(str(os.getpid()))
    draft.replace(file)


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
