import asyncio
import threading
from concurrent.futures import CancelledError
from contextlib import closing
from dataclasses import dataclass
from typing import ClassVar

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import fn_runner
from apache_beam.testing.util import assert_that, equal_to

from schemas.video import EngineStamp
from transforms.journal.counts import add, work_of
from transforms.journal.journal import Journal
from transforms.journal.record import Key
from transforms.workers import window
from transforms.workers.event_loop import event_loop
from transforms.workers.window import flat_map

PATIENCE_S = 300.0


@dataclass(frozen=True)
class Server:
    """An engine's options, all that a window reads of an engine."""

    at_once: int = 4
    name: str = ""
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self):
        return None

    def stamp(self):
        return EngineStamp("server", "1", "", "f" * 16)


@dataclass(frozen=True)
class Local:
    def load(self):
        return None

    def stamp(self):
        return EngineStamp("local", "1", "", "f" * 16)


class Meeting:
    """Counts who is inside at the same time; lets a step wait until enough are."""

    def __init__(self):
        self.changed = threading.Condition()
        self.reset()

    def reset(self):
        self.inside = self.most = 0
        self.threads = set()

    def __enter__(self):
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.threads.add(threading.current_thread())
            self.changed.notify_all()

    def __exit__(self, *_):
        with self.changed:
            self.inside -= 1

    def await_most(self, n):
        with self.changed:
            assert self.changed.wait_for(lambda: self.most >= n, PATIENCE_S)


meeting = Meeting()  # steps are pickled, so what they share with a test is found by name
started, released = threading.Event(), threading.Event()


@pytest.fixture(autouse=True)
def _anew():
    meeting.reset()
    started.clear()
    released.clear()
    yield
    released.set()
    window.shut_down()


def pipeline(workers=1):
    options = PipelineOptions()
    direct = options.view_as(DirectOptions)
    direct.direct_num_workers, direct.direct_running_mode = workers, "multi_threading" if workers > 1 else "in_memory"
    return beam.Pipeline(runner=fn_runner.FnApiRunner(), options=options)


def threads():
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("window", "event-loop"))}


def meet(number, expected):
    with meeting:
        meeting.await_most(expected)
        yield number


def test_as_many_elements_are_under_way_as_the_engine_takes_and_never_more():
    with pipeline() as p:
        numbers = p | beam.Create(range(20)) | flat_map(Server(at_once=4), meet, 4)
        assert_that(numbers, equal_to(list(range(20))))

    assert meeting.most == 4


def test_bundles_and_steps_of_an_engine_share_its_threads():
    with pipeline(workers=3) as p:
        numbers = p | beam.Create(range(30)) | beam.Reshuffle()
        twice = [numbers | name >> flat_map(Server(at_once=4), meet, 4) for name in ("one", "two")]
        assert_that(twice | beam.Flatten(), equal_to([*range(30), *range(30)]))

    assert meeting.most == 4
    assert len(meeting.threads) == 4


def test_engines_with_other_options_have_threads_of_their_own():
    with pipeline() as p:
        numbers = p | beam.Create(range(6)) | "a" >> flat_map(Server(1, "a"), meet, 1)
        _ = numbers | "b" >> flat_map(Server(1, "b"), meet, 1)

    assert len(meeting.threads) == 2


def test_an_engine_that_computes_here_needs_no_thread():
    with pipeline() as p:
        numbers = p | beam.Create([1, 2]) | flat_map(Local(), meet, 1)
        assert_that(numbers, equal_to([1, 2]))

    assert not any(thread.name.startswith("window") for thread in meeting.threads)


def first_waits_for_the_last(number, last):
    if number == 0:
        assert started.wait(PATIENCE_S)
    if number == last:
        started.set()
    yield number


def test_a_slow_element_holds_up_no_other():
    with pipeline() as p:
        numbers = p | beam.Create(range(50)) | flat_map(Server(at_once=2), first_waits_for_the_last, 49)
        assert_that(numbers, equal_to(list(range(50))))


class _Downstream(beam.DoFn):
    def process(self, number):
        released.set()
        yield number


def last_waits_for_what_follows(number, last):
    if number == last:
        assert released.wait(PATIENCE_S)
    yield number


def test_what_is_finished_is_handed_on_while_others_are_under_way():
    with pipeline() as p:
        numbers = p | beam.Create(range(20)) | flat_map(Server(at_once=2), last_waits_for_what_follows, 19)
        assert_that(numbers | beam.ParDo(_Downstream()), equal_to(list(range(20))))


def parity(number):
    if number % 2:
        yield beam.pvalue.TaggedOutput("odd", number)
        yield beam.pvalue.TaggedOutput("odd", -number)
    elif number % 4:
        yield number


def test_outputs_keep_their_tags_however_many_there_are():
    with pipeline() as p:
        found = p | beam.Create(range(10)) | flat_map(Server(), parity).with_outputs("odd", main="even")
        assert_that(found.even, equal_to([2, 6]), label="even")
        assert_that(found.odd, equal_to([sign * n for n in range(1, 10, 2) for sign in (1, -1)]), label="odd")
        grouped = found.odd | beam.Map(lambda number: (abs(number), number)) | beam.GroupByKey()
        assert_that(grouped | beam.Map(lambda pair: pair[0]), equal_to([1, 3, 5, 7, 9]), label="grouped")


def counted(number):
    add("judge", "run", number)
    yield number


@pytest.mark.parametrize("workers", [1, 2])
def test_counts_of_the_threads_reach_the_runner(workers):
    p = pipeline(workers)
    _ = p | beam.Create(range(40)) | beam.Reshuffle() | flat_map(Server(), counted)
    result = p.run()
    result.wait_until_finish()

    assert work_of(result) == {"judge": {"run": sum(range(40))}}


def fail_at(number, bad):
    if number == bad:
        raise ValueError("this one is broken")
    yield number


@pytest.mark.parametrize("bad", [0, 19])
def test_an_error_fails_the_run_with_its_own_words(bad):
    with pytest.raises(Exception, match="this one is broken"), pipeline() as p:
        _ = p | beam.Create(range(20)) | flat_map(Server(), fail_at, bad)


def journaled(number, journal):
    def work():
        with meeting:
            return number % 3

    yield journal.once(Key("judge", str(number % 3)), work, int)


def test_a_result_that_many_elements_need_at_once_is_made_once(tmp_path):
    with closing(Journal(str(tmp_path))) as journal:
        p = pipeline()
        _ = p | beam.Create(range(30)) | flat_map(Server(at_once=8), journaled, journal)
        result = p.run()

        assert work_of(result)["judge"] == {"run": 1, "cached": 29}


async def _forever():
    started.set()
    await asyncio.Event().wait()


def ask_a_silent_server(number):
    yield event_loop().run(_forever())


@pytest.mark.parametrize("elements", [1, 3, 50])
def test_a_run_can_be_cut_short_while_all_wait_for_the_server(elements):
    failed = []

    def run():
        try:
            with pipeline() as p:
                _ = p | beam.Create(range(elements)) | flat_map(Server(at_once=3), ask_a_silent_server)
        except Exception as error:  # noqa: BLE001 - looked at below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(PATIENCE_S)
    window.shut_down()
    thread.join(PATIENCE_S)

    assert not thread.is_alive()
    assert "CancelledError" in repr(failed[0])
    assert threads() == set()


def test_no_thread_is_left_and_a_later_run_starts_anew():
    for _ in range(2):
        with pipeline() as p:
            _ = p | beam.Create(range(8)) | flat_map(Server(at_once=4), meet, 1)
        assert threads() != set()
        window.shut_down()
        assert threads() == set()


def test_a_call_after_the_end_of_its_loop_is_cancelled():
    loop = event_loop()
    window.shut_down()

    with pytest.raises(CancelledError):
        loop.run(_forever())
    assert event_loop() is not loop
