"""Gathers what many threads ask for into batches, and answers one batch after the other in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from typing import Generic, TypeVar

from transforms.workers.event_loop import event_loop

Item = TypeVar("Item")
Answer = TypeVar("Answer")
T = TypeVar("T")
Stopped = Callable[[], bool]

QUIET_S = 0.02
"""A batch that is not full begins when nothing more has come for so long."""

_log = logging.getLogger(__name__)


class Batcher(Generic[Item, Answer]):
    """Answers the items of many threads by ``work``, at most ``size`` at a time.

    ``work`` is given the items of a batch, and a function by which it can see that nobody waits for them any more.
    A batch that takes more memory than there is, which ``too_large`` says, is halved, and so is every later one. The
    thread begins with the first item and ends when there are none.
    """

    def __init__(
        self, work: Callable[[Sequence[Item], Stopped], Sequence[Answer]], size: int, too_large: type[Exception]
    ) -> None:
        self._work, self._size, self._too_large = work, size, too_large
        self._waiting: list[tuple[Item, Future[Answer]]] = []
        self._at_work = False
        self._arrived = threading.Condition()

    def ask(self, item: Item) -> Answer:
        """The answer to one item; blocks until its batch is done.

        Raises:
            CancelledError: the run was stopped.
            Exception: whatever ``work`` raised on the item's batch, ``too_large`` only where the item was alone in it.
        """
        answer: Future[Answer] = Future()
        with self._arrived:
            self._waiting.append((item, answer))
            self._arrived.notify()
            if not self._at_work:
                self._at_work = True
                threading.Thread(target=self._work_off, name="batcher", daemon=True).start()
        try:
            return event_loop().run(_outcome(answer))  # there, for ending the run to end the wait
        except CancelledError:
            answer.cancel()
            raise

    def _work_off(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[tuple[Item, Future[Answer]]]:
        with self._arrived:
            while len(self._waiting) < self._size and self._arrived.wait(QUIET_S):
                pass
            self._waiting = [(item, answer) for item, answer in self._waiting if not answer.cancelled()]
            batch, self._waiting = self._waiting[: self._size], self._waiting[self._size :]
            self._at_work = bool(batch)
            return batch

    def _answer(self, batch: list[tuple[Item, Future[Answer]]]) -> None:
        futures = [future for _, future in batch]
        try:
            answers = self._work([item for item, _ in batch], lambda: all(future.cancelled() for future in futures))
        except self._too_large as error:
            problem: Exception = error.with_traceback(None)  # whose frames hold the memory of the batch
        except Exception as error:  # noqa: BLE001 - it is for those who asked to answer
            problem = error
        else:
            for future, answer in _waiting(futures, answers):
                future.set_result(answer)
            return
        if isinstance(problem, self._too_large) and len(batch) > 1:
            self._size = half = -(-len(batch) // 2)
            _log.warning("%d requests at a time take more memory than there is: going on with %d", len(batch), half)
            self._answer(batch[:half])
            self._answer(batch[half:])
            return
        for future, _ in _waiting(futures, batch):
            future.set_exception(problem)


async def _outcome(answer: Future[Answer]) -> Answer:
    return await asyncio.wrap_future(answer)


def _waiting(futures: Sequence[Future[Answer]], others: Sequence[T]) -> Iterator[tuple[Future[Answer], T]]:
    """The pairs whose future somebody waits for; from here on nobody can cancel it."""
    for future, other in zip(futures, others, strict=True):
        if future.set_running_or_notify_cancel():
            yield future, other
