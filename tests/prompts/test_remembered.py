"""Results that are kept for records told apart by identity."""

import gc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from prompts.remembered import remembered


@dataclass(frozen=True)
class Record:
    text: str


def counted(most):
    calls = []

    @remembered(most)
    def joined(record, *args):
        """What is joined."""
        calls.append((record, args))
        return (record.text, *args)

    return joined, calls


def test_a_record_is_worked_on_once_for_each_of_its_arguments():
    joined, calls = counted(4)
    record = Record("a")

    assert [joined(record, 1), joined(record, 2), joined(record, 1)] == [("a", 1), ("a", 2), ("a", 1)]
    assert len(calls) == 2
    assert joined.__doc__ == "What is joined."


def test_an_equal_record_is_another_one_and_one_that_took_the_place_of_another_never_has_its_result():
    joined, calls = counted(8)

    assert joined(Record("a")) == joined(Record("a"))
    assert len(calls) == 2
    assert [joined(Record(f"r{n}")) for n in range(100)] == [(f"r{n}",) for n in range(100)]  # ids are used again
    gc.collect()
    assert [joined(Record(f"s{n}")) for n in range(100)] == [(f"s{n}",) for n in range(100)]


def test_no_more_than_so_many_are_held_and_those_that_came_first_go_first():
    joined, calls = counted(2)
    records = [Record(text) for text in "abc"]
    for record in records:
        joined(record)

    joined(records[2])
    joined(records[1])
    assert len(calls) == 3
    joined(records[0])
    assert len(calls) == 4


def test_threads_get_what_belongs_to_their_record():
    joined, _ = counted(4)
    records = [Record(str(n)) for n in range(50)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: joined(records[n % 50], n % 3), range(2000)))

    assert found == [(str(n % 50), n % 3) for n in range(2000)]
