"""Child processes that begin with the trainer imported: the ranks of a distributed run, and a run that kills itself."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

Moment = tuple[str, int, bool]
"""A method of ``StageTrainer``, the step at which it is called, and whether death comes after it or in its place."""

_IMPORTED = ["runners.cli.main", "trainer.perception", "trainer.ranking", "trainer.retriever.stage", "trainer.run"]


def run_ranks(ranks: int, function: Callable[..., object], *args: object) -> None:
    """Call a function in so many processes at once, each told what torchrun would tell it; all must end well."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    running = [_started(_as_rank, rank, ranks, port, function, *args) for rank in range(ranks)]
    while alive := [process for process in running if process.is_alive()]:
        wait([process.sentinel for process in alive])
        if any(process.exitcode for process in running):  # those that are left would wait for it
            for process in running:
                process.kill()
    assert [process.exitcode for process in running] == [0] * ranks


def exit_code_of_training(moment: Moment, arguments: Sequence[str]) -> int | None:
    """How ``hardquery train`` ends that kills itself at this moment."""
    process = _started(_train_and_die, moment, arguments)
    process.join()
    return process.exitcode


def _started(function: Callable[..., object], *args: object) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    process = context.Process(target=function, args=args)
    process.start()
    return process


def _as_rank(rank: int, ranks: int, port: int, function: Callable[..., object], *args: object) -> None:
    own = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in own.items()}, MASTER_ADDR="127.0.0.1")
    function(*args)


def _train_and_die(moment: Moment, arguments: Sequence[str]) -> None:
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
