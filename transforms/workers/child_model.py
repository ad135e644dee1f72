"""A model at work in a child process: loading it costs no video its time, and failing to load it stops the run."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import TypeVar, cast

from transforms.protocols.engine import Engine, EngineError, loaded
from transforms.storage.file_lock import FileLock
from transforms.storage.local_file import own_folder
from transforms.workers.sandbox import PreparationFailed, run_isolated
from transforms.workers.watchdog import Limit

T = TypeVar("T")


def run_with_model(function: Callable[..., T], engine: Engine, *args: object, limit: Limit, workers: int = 1) -> T:
    """Call ``function(engine, *args)`` in a child process in which ``loaded(engine)`` is at hand.

    Loading counts towards no limit.

    Raises:
        EngineError: the model cannot be loaded, so no other video would fare better.
        TimeLimitExceeded, WorkerDied, Exception: as ``run_isolated``.
    """
    try:
        return run_isolated(
            function, engine, *args, limit=limit, workers=workers, prepare=partial(_load, cast(Hashable, engine))
        )
    except PreparationFailed as error:
        raise EngineError(f"the engine {engine.stamp().name!r} cannot be loaded: {error}") from error


@cache
def _load(engine: Hashable) -> None:
    """Load the model, one process of this machine at a time: none must read weights that another is downloading."""
    with _turn(type(engine).__name__):
        loaded(engine)


@contextmanager
def _turn(kind: str) -> Iterator[None]:
    """Wait until no other process of this user loads an engine of this kind."""
    with ExitStack() as held:
        with suppress(OSError):  # who cannot write there downloads nothing either: that is where models are put
            os.makedirs(own_folder(), exist_ok=True)
            held.enter_context(FileLock(os.path.join(own_folder(), f"loading-{kind}.lock"), wait=True))
        yield
