"""A sliding window over a step that waits for a server: many elements at a time, none waits for a slower one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, as_completed, wait
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.journal.counts import add, counted_aside
from transforms.protocols.engine import Engine, Waits
from transforms.workers import event_loop

Step = Callable[..., Iterable[Any]]
Outcome = tuple[list[Any], list[tuple[str, str, int]]]  # outputs, counts

_NOTICE_S = 0.2


def flat_map(engine: Engine, step: Step, *args: Any, **options: Any) -> beam.ParDo:
    """``beam.FlatMap(step, *args, **options)``, several elements at a time where the engine waits for a server.

    ``step`` is then called in threads of this process, at most ``engine.at_once`` in all bundles together. Outputs come
    in any order, and only from a global window to a global window; an error of one element fails its bundle.
    """
    if not isinstance(engine, Waits):
        return beam.FlatMap(step, *args, **options)
    return beam.ParDo(InWindow(engine, step, args, options))


class InWindow(beam.DoFn):
    """Any element -> what a step makes of it, in the window of an engine; see ``flat_map``."""

    def __init__(self, engine: Waits, step: Step, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._engine, self._step, self._args, self._options = engine, step, args, options

    def start_bundle(self) -> None:
        self._window = _window_of(self._engine)
        self._under_way: list[Future[Outcome]] = []

    def process(self, element: Any) -> Iterator[Any]:
        """Begin with this element, once there is room; hand out what of earlier ones is finished."""
        self._under_way.append(self._window.submit(self._step, element, *self._args, **self._options))
        finished = [future for future in self._under_way if future.done()]
        self._under_way = [future for future in self._under_way if future not in finished]
        for future in finished:
            yield from self.outputs(future.result())

    def finish_bundle(self) -> Iterator[Any]:
        for future in as_completed(self._under_way):
            for output in self.outputs(future.result()):
                if isinstance(output, beam.pvalue.TaggedOutput):
                    yield beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))
                else:
                    yield GlobalWindows.windowed_value(output)

    def outputs(self, outcome: Outcome) -> Iterable[Any]:
        """What an element became, in the thread that Beam runs the bundle in."""
        outputs, counts = outcome
        for count in counts:
            add(*count)
        return outputs


class _Window:
    """Threads that wait for one engine's server, and never more work than threads."""

    def __init__(self, size: int) -> None:
        self._room = threading.Semaphore(size)
        self._threads = ThreadPoolExecutor(size, thread_name_prefix="window")
        self._under_way: set[Future[Outcome]] = set()

    def submit(self, step: Step, *args: Any, **options: Any) -> Future[Outcome]:
        """Begin as soon as a thread is free. Raises ``CancelledError`` when the window is closed."""
        self._room.acquire()
        try:
            future = self._threads.submit(_work, step, args, options)
        except RuntimeError as error:  # the threads were shut down
            self._room.release()
            raise CancelledError("the run is over") from error
        self._under_way.add(future)
        future.add_done_callback(self._ended)
        return future

    def _ended(self, future: Future[Outcome]) -> None:
        self._under_way.discard(future)
        self._room.release()

    def close(self) -> None:
        """Cut short all that is under way, and end the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        while under_way := tuple(self._under_way):
            event_loop.shut_down()  # again: a thread may just have been between two calls
            wait(under_way, timeout=_NOTICE_S)
        self._threads.shutdown()


def _work(step: Step, args: tuple[Any, ...], options: dict[str, Any]) -> Outcome:
    with counted_aside() as counts:
        return list(step(*args, **options)), counts


_windows: dict[tuple[type, Waits], _Window] = {}
_opening = threading.Lock()


def _window_of(engine: Waits) -> _Window:
    with _opening:
        key = (type(engine), engine)
        if key not in _windows:
            _windows[key] = _Window(engine.at_once)
        return _windows[key]


def shut_down() -> None:
    """End all calls, connections and threads of this process; the next bundle starts anew."""
    with _opening:
        windows = tuple(_windows.values())
        _windows.clear()
    for window in windows:
        window.close()
    event_loop.shut_down()
