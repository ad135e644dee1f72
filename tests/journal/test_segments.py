import os
import signal
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.journal_lines import digest, in_a_child, line
from transforms.journal import segments
from transforms.journal.segments import CannotJournal, Damage, Index, Line, Segment, read_line, scan


def found(content: bytes) -> list[Line | Damage]:
    return list(scan(content.splitlines(keepends=True)))


def keys(path: str) -> list[str]:
    with open(path, "rb") as file:
        return [item.key for item in scan(file) if isinstance(item, Line)]


def test_a_line_is_read_as_it_was_written():
    raw = line(1, '{"text": "naïve 🎬"}'.encode())
    assert read_line(raw) == Line(0, len(raw), digest(1), digest(1)[:16], '{"text": "naïve 🎬"}'.encode())


def test_a_changed_byte_anywhere_is_damage_of_this_line_and_of_no_other():
    lines = [line(n) for n in range(3)]
    first, last = len(lines[0]), len(lines[0]) + len(lines[1])
    for position in range(first, last):
        for mask in (0x01, 0x20, 0x80, 0xFF):
            content = bytearray(b"".join(lines))
            content[position] ^= mask
            items = found(bytes(content))
            whole = [item.key for item in items if isinstance(item, Line)]
            # A line whose newline is gone takes the next one with it.
            assert whole == ([digest(0), digest(2)] if position < last - 1 else [digest(0)])
            damage = [item for item in items if isinstance(item, Damage)]
            assert damage
            assert sum(item.length for item in items) == len(content)
            assert damage[0].offset == first


def test_an_end_that_was_cut_anywhere_is_torn():
    whole, last = line(1), line(2)
    for length in range(1, len(last)):
        items = found(whole + last[:length])
        assert [type(item) for item in items] == [Line, Damage]
        assert items[1] == Damage(len(whole), length, "torn")


def test_every_thread_reads_its_line_at_the_offset_it_was_given(tmp_path):
    segment = Segment(str(tmp_path))
    with ThreadPoolExecutor(8) as threads:
        offsets = list(threads.map(lambda n: segment.append(line(n, b'"%s"' % (b"x" * n))), range(200)))
    segment.close()
    content = Path(segment.path).read_bytes()
    for n, offset in enumerate(offsets):
        end = content.index(b"\n", offset) + 1
        assert read_line(content[offset:end]).key == digest(n)
    assert len(keys(segment.path)) == 200


APPEND_FOREVER = """
import sys
from tests.support.journal_lines import line
from transforms.journal.segments import Segment
segment, n = Segment(sys.argv[1]), 0
while True:
    segment.append(line(n, b'"%s"' % (b"x" * 1000)))
    print(n, flush=True)
    n += 1
"""


@pytest.mark.parametrize("after", [1, 7, 150])
def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path, after):
    with in_a_child(APPEND_FOREVER, str(tmp_path)) as child:
        acknowledged = [int(child.stdout.readline()) for _ in range(after)]
        child.send_signal(signal.SIGKILL)
        acknowledged += [int(text) for text in child.stdout.read().splitlines() if text]
    (path,) = tmp_path.iterdir()
    assert keys(str(path))[: len(acknowledged)] == [digest(n) for n in acknowledged]


FILL = """
import os, resource, sys
from tests.support.journal_lines import line
from transforms.journal.segments import CannotJournal, Segment
segment, n = Segment(sys.argv[1]), 0
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
try:
    while True:
        segment.append(line(n, b'"%s"' % (b"x" * 700)))
        n += 1
except CannotJournal as error:
    assert segment.path in str(error) and "File too large" in str(error), error
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
segment.append(line(n))
print(n)
"""


def test_a_full_disk_leaves_no_half_line_and_what_comes_later_is_whole(tmp_path):
    with in_a_child(FILL, str(tmp_path)) as child:
        out, err = child.communicate(timeout=600)
    assert child.returncode == 0, err
    (path,) = tmp_path.iterdir()
    n = int(out)
    assert n > 5
    assert keys(str(path)) == [digest(number) for number in range(n + 1)]
    assert all(isinstance(item, Line) for item in found(path.read_bytes()))


def test_a_half_line_that_cannot_be_taken_back_is_the_last(tmp_path, monkeypatch):
    segment = Segment(str(tmp_path))
    segment.append(line(1))
    write = os.write

    def write_half_then_fail(fd, data):
        monkeypatch.setattr(os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        return write(fd, data[:10])

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "write", write_half_then_fail)
    monkeypatch.setattr(os, "ftruncate", fail)
    with pytest.raises(CannotJournal, match="No space left"):
        segment.append(line(2))
    monkeypatch.setattr(os, "write", write)
    with pytest.raises(CannotJournal, match="half a line"):
        segment.append(line(3))
    assert keys(segment.path) == [digest(1)]


def test_a_disk_that_fails_to_sync_is_an_error(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(segments, "SYNC_PERIOD_S", 0.0)
    monkeypatch.setattr(segments, "_sync", fail)
    segment = Segment(str(tmp_path))
    with pytest.raises(CannotJournal, match="Input/output error"):
        segment.append(line(1))
    segment.close()
    assert keys(segment.path) == []


def test_places_of_a_key_come_in_the_order_in_which_they_were_added():
    index = Index()
    index.extend(array("Q", [7, 3, 7]), array("Q", [1, 2, 3]))
    index.add(7, 4)
    index.extend(array("Q", [9]), array("Q", [5]))
    assert [index.places(key) for key in (7, 3, 9, 8)] == [[1, 3, 4], [2], [5], []]
    assert len(index) == 5


def test_places_are_found_in_order_wherever_an_index_draws_the_line(monkeypatch):
    monkeypatch.setattr(segments, "APART", 5)
    index, expected = Index(), [[], [], []]
    for n in range(60):
        if n % 7 == 3:  # more at once than may lie apart, or fewer
            together = range(1000 * n, 1000 * n + n // 3)
            index.extend(array("Q", (place % 3 for place in together)), array("Q", together))
            for place in together:
                expected[place % 3].append(place)
        index.add(n % 3, n)
        expected[n % 3].append(n)
        assert [index.places(key) for key in range(3)] == expected
        assert len(index) == sum(map(len, expected))


def nbytes(index: Index) -> int:
    """The memory that the sorted records take."""
    return index._keys.nbytes + index._places.nbytes


def test_records_that_are_added_one_by_one_come_to_16_bytes_each():
    index, n = Index(), segments.APART + 1
    for place in range(n):
        index.add(place * 0x9E3779B97F4A7C15 % 2**64, place)
    assert (nbytes(index), len(index)) == (16 * n, n)


def test_a_million_records_take_16_bytes_each():
    n = 1_000_000
    index = Index()
    index.extend(array("Q", (key * 0x9E3779B97F4A7C15 % 2**64 for key in range(n))), array("Q", range(n)))
    assert nbytes(index) == 16 * n
    assert index.places(123_456 * 0x9E3779B97F4A7C15 % 2**64) == [123_456]
