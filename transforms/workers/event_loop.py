"""The event loop of this process: one thread in which the calls of all clients wait for their servers."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

T = TypeVar("T")
Close = Callable[[], Awaitable[object]]

_loops: dict[int, EventLoop] = {}  # by process id: a forked process does not inherit threads
_lock = threading.Lock()


def event_loop() -> EventLoop:
    """The loop of this process, started on first use and after ``shut_down``."""
    with _lock:
        if os.getpid() not in _loops:
            _loops[os.getpid()] = EventLoop()
        return _loops[os.getpid()]


def shut_down() -> None:
    """Cancel all calls, close all connections and end the thread; runs by itself when the interpreter exits."""
    with _lock:
        loop = _loops.pop(os.getpid(), None)
    if loop is not None:
        loop.shut_down()


atexit.register(shut_down)


class EventLoop:
    """A loop in a thread of its own; ``run`` may be called from any number of other threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing: list[Close] = []
        self._ended = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._loop.run_forever, name="event-loop", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` returns or raises. Raises ``CancelledError`` where the loop is shut down before that."""
        with self._lock:
            if self._ended:
                work.close()
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()

    def close_at_end(self, close: Close) -> None:
        """Await ``close()`` when the loop is shut down."""
        self._closing.append(close)

    def shut_down(self) -> None:
        """See the function of this name."""
        with self._lock:
            self._ended = True
            end = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        end.result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        under_way = asyncio.all_tasks() - {asyncio.current_task()}
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        await asyncio.gather(*(close() for close in self._closing), return_exceptions=True)
