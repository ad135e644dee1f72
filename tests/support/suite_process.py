"""The processes of the suite: forks of one that has imported what its tests do, which takes longer than most tests.

Each keeps a fork of itself aside, from before its first test: children begin in it with all of that imported.
"""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection, Pipe
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, NoReturn
from unittest.mock import patch

from execnet import gateway_io

from tests.support.fork_server import start, start_in

IMPORTED = [
    *("benchmarks.matrix", "benchmarks.kill", "runners.cli.main", "runners.job", "pipeline.run", "hardquery"),
    *("trainer.perception", "trainer.ranking", "trainer.retriever.stage", "trainer.run", "trainer.rerank"),
    *("apache_beam.testing.util", "apache_beam.testing.test_pipeline", "datasets", "duckdb", "ir_measures"),
    *("transforms.engines.openai.teacher", "jsonschema", "moto.server", "pyarrow.dataset", "bm25s", "boto3"),
]
_aside: list[forkserver.ForkServer] = []


def fork_suite_processes() -> None:
    """From now on what execnet starts on this machine are such processes."""
    # Runs that tests kill leave semaphores behind; what removes them at the end need not say so.
    with patch.object(util, "_args_from_interpreter_flags", lambda: ["-W", "ignore:resource_tracker"]):
        resource_tracker.ensure_running()
    gateway_io.create_io = lambda spec, execmodel: _Forked(execmodel)


def start_child(modules: Sequence[str], function: Callable[..., object], *args: object) -> BaseProcess:
    """A process that calls ``function(*args)``, with these modules imported, of which ``IMPORTED`` has all."""
    if not _aside:
        return start(modules, function, *args)
    with Connection(os.dup(1)) as out, Connection(os.dup(2)) as err:  # which pytest has put in the place of those
        return start_in(_aside[0], _speak, (out, err), function, *args)


def _speak(streams: Sequence[Connection], function: Callable[..., object], *args: object) -> None:
    """Call a function that says what it says where the test does that asked for it."""
    for stream, its in enumerate(streams, start=1):
        os.dup2(its.fileno(), stream)
        its.close()
    function(*args)


class _Forked(gateway_io.Popen2IOMaster):
    """What execnet has of a process: pipes to its standard input and from its output, and its end."""

    def __init__(self, execmodel: Any) -> None:
        (reads, to), (source, writes) = Pipe(duplex=False), Pipe(duplex=False)
        self._process = start(IMPORTED, _begin, reads, writes)
        files = os.fdopen(os.dup(to.fileno()), "wb"), os.fdopen(os.dup(source.fileno()), "rb")
        for end in (reads, to, source, writes):
            end.close()
        gateway_io.Popen2IO.__init__(self, *files, execmodel=execmodel)

    def wait(self) -> int | None:
        self._process.join()
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()


def _begin(reads: Connection, writes: Connection) -> None:
    """Do as an interpreter that execnet started: what its first line says."""
    gc.freeze()  # what was imported: to look at it would copy it
    multiprocessing.set_start_method(None, force=True)  # that of the platform; a fork server's children keep to its
    _set_aside()
    for end, stream in ((reads, 0), (writes, 1)):
        os.dup2(end.fileno(), stream)
        end.close()
    sys.stdin, sys.argv = os.fdopen(0, closefd=False), ["-c"]
    main = sys.modules["__main__"] = ModuleType("__main__")
    exec(eval(sys.stdin.readline()), vars(main))
    util._exit_function()  # before what tests/conftest.py has registered, which ends at once
    atexit._run_exitfuncs()


def _set_aside() -> None:
    """Have a server whose process is this one as it is."""

    def fork(_: str, arguments: Sequence[str], files: Sequence[int]) -> int:
        return os.fork() or serve(arguments[-1], {*range(3), *files, resource_tracker.getfd()})

    def serve(program: str, files: set[int]) -> NoReturn:
        for file in {int(name) for name in os.listdir("/proc/self/fd")} - files:
            with suppress(OSError):  # of the folder that was listed
                os.close(file)
        try:
            exec(program, {})
        finally:
            os._exit(0)

    server = forkserver.ForkServer()
    server.set_forkserver_preload([])
    with patch.object(util, "spawnv_passfds", fork):
        server.ensure_running()
    _aside.append(server)
