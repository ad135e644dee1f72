"""Child processes that begin with the trainer imported: the ranks of a distributed run, and a run that kills itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.support.suite_process import start_child

Moment = tuple[str, int, bool]
"""A method of ``StageTrainer``, the step at which it is called, and whether death comes after it or in its place."""

IMPORTED = ["runners.cli.main", "trainer.perception", "trainer.ranking", "trainer.retriever.stage", "trainer.run"]
_PATIENCE_S = 300.0  # which only a process that stays meets


def run_ranks(ranks: int, function: Callable[..., object], *args: object) -> None:
    """Call a function in so many processes at once, each told what torchrun would tell it; all must end well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = [start_child(IMPORTED, _as_rank, rank, ranks, port, function, *args) for rank in range(ranks)]
    while alive := [process for process in running if process.is_alive()]:
        wait([process.sentinel for process in alive])
        if any(process.exitcode for process in running):  # those that are left would wait for it
            for process in running:
                process.kill()
    assert [process.exitcode for process in running] == [0] * ranks


def exit_code_of_training(moment: Moment, arguments: Sequence[str], workers: str = "fork") -> int | None:
    """How ``hardquery train`` ends that kills itself at this moment; nothing that it started may stay.

    ``workers`` says how its loaders start theirs: those that read object stores do by a fork server.
    """
    mark = uuid4().hex
    process = start_child(IMPORTED, _train_and_die, mark, moment, arguments, workers)
    process.join()
    for left in _marked(mark):
        with suppress(ProcessLookupError):
            ended = os.pidfd_open(left)
            assert wait([ended], timeout=_PATIENCE_S), f"process {left} outlived the training that started it"
            os.close(ended)
    return process.exitcode


def _marked(mark: str) -> list[int]:
    """The processes that were started with this in their environment, and those that they forked."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
    return found


def _as_rank(rank: int, ranks: int, port: int, function: Callable[..., object], *args: object) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()}, MASTER_ADDR="127.0.0.1")
    multiprocessing.set_start_method("fork", force=True)  # which is Linux's own; a fork server's children keep to its
    function(*args)


def _train_and_die(mark: str, moment: Moment, arguments: Sequence[str], workers: str) -> None:
    os.environ["STARTED_BY"] = mark
    multiprocessing.set_start_method(workers, force=True)
    from runners.cli.main import main
    from trainer.stage import StageTrainer

    name, step, after = moment
    method = getattr(StageTrainer, name)

    def dying(self: StageTrainer, *given: Any, **named: Any) -> Any:
        result = method(self, *given, **named) if after else None
        if self.state.global_step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return result if after else method(self, *given, **named)

    setattr(StageTrainer, name, dying)
    main(arguments)
