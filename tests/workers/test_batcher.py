import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor

import pytest

from transforms.workers import event_loop
from transforms.workers.batcher import Batcher
from transforms.workers.window import shut_down

HANG_S = 300.0  # so long waits only who hangs


class TooLarge(RuntimeError):
    pass


class Doubler:
    """Doubles numbers, at most ``room`` at a time; remembers its batches."""

    def __init__(self, room=100):
        self.room = room
        self.batches = []

    def __call__(self, numbers, stopped):
        self.batches.append(list(numbers))
        if len(numbers) > self.room:
            raise TooLarge(f"{len(numbers)} numbers")
        if "bad" in numbers:
            raise KeyError("bad")
        return [2 * number for number in numbers]


def ask_all(batcher, items):
    """Every item in a thread of its own; the answers, or the errors, in order."""

    def ask(item):
        try:
            return batcher.ask(item)
        except (TooLarge, KeyError) as error:
            return error

    with ThreadPoolExecutor(len(items)) as threads:
        return list(threads.map(ask, items))


def test_each_thread_gets_the_answer_to_its_own_item():
    work = Doubler()

    assert ask_all(Batcher(work, 4, TooLarge), range(30)) == [2 * number for number in range(30)]
    assert max(map(len, work.batches)) <= 4
    assert sorted(number for batch in work.batches for number in batch) == list(range(30))


def test_what_waits_while_a_batch_is_answered_is_the_next_batch():
    at_work, more = threading.Event(), threading.Event()
    batches = []

    def work(items, stopped):
        batches.append(sorted(items))
        at_work.set()
        assert more.wait(HANG_S)
        return items

    batcher = Batcher(work, 8, TooLarge)
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(batcher.ask, 0)
        assert at_work.wait(HANG_S)
        others = [threads.submit(batcher.ask, number) for number in range(1, 8)]
        while len(batcher._waiting) < 7:
            pass
        more.set()
        assert [future.result(HANG_S) for future in (first, *others)] == list(range(8))
    assert batches == [[0], list(range(1, 8))]


def test_a_batch_that_is_too_large_is_halved_and_so_are_all_later_ones(monkeypatch):
    monkeypatch.setattr("transforms.workers.batcher.QUIET_S", HANG_S)  # batches are full
    work = Doubler(room=2)
    batcher = Batcher(work, 8, TooLarge)

    assert ask_all(batcher, range(8)) == [2 * number for number in range(8)]
    failed = sum(len(batch) > 2 for batch in work.batches)
    assert ask_all(batcher, range(8)) == [2 * number for number in range(8)]
    assert sum(len(batch) > 2 for batch in work.batches) == failed


def test_an_item_that_is_too_large_alone_fails_alone():
    def work(items, stopped):
        if "large" in items:
            raise TooLarge
        return items

    answers = ask_all(Batcher(work, 4, TooLarge), ["a", "large", "b", "c"])

    assert [answer for answer in answers if isinstance(answer, str)] == ["a", "b", "c"]
    assert isinstance(answers[1], TooLarge)


def test_any_other_error_reaches_all_that_were_in_the_batch_and_no_later_one():
    batcher = Batcher(Doubler(), 2, TooLarge)

    assert {type(answer) for answer in ask_all(batcher, ["bad", "bad"])} == {KeyError}
    assert batcher.ask(3) == 6


def test_its_thread_ends_when_there_is_nothing_to_do():
    batcher, before = Batcher(Doubler(), 2, TooLarge), set(threading.enumerate())
    batcher.ask(1)

    for thread in set(threading.enumerate()) - before:
        if thread.name == "batcher":
            thread.join(HANG_S)
            assert not thread.is_alive()
    assert batcher.ask(2) == 4


def test_the_end_of_the_run_ends_the_wait_and_tells_the_work():
    at_work, told = threading.Event(), threading.Event()

    def work(items, stopped):
        at_work.set()
        while not stopped():
            pass
        told.set()
        return items

    batcher = Batcher(work, 1, TooLarge)
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(batcher.ask, number) for number in range(2)]
        assert at_work.wait(HANG_S)
        while len(batcher._waiting) < 1:
            pass
        shut_down()
        for future in asked:
            with pytest.raises(CancelledError):
                future.result(HANG_S)
    assert told.wait(HANG_S)


def test_asking_works_again_after_the_end_of_a_run():
    batcher = Batcher(Doubler(), 2, TooLarge)
    batcher.ask(1)
    event_loop.shut_down()

    assert batcher.ask(2) == 4
