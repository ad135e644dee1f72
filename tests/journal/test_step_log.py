import os
from pathlib import Path

import pytest

from tests.support.journal_lines import digest, in_a_child, line
from transforms.journal import step_log
from transforms.journal.segments import CannotJournal, line_of
from transforms.journal.step_log import StepLog


@pytest.fixture(autouse=True)
def _look_at_once(monkeypatch):
    monkeypatch.setattr(step_log, "REFRESH_PERIOD_S", 0.0)


def put(log: StepLog, n: int, data: bytes = b"1", subject: str = "") -> None:
    subject = subject or digest(n)[:16]
    log.append(digest(n), subject, line_of(digest(n), subject, data))


def write_segment(root: Path, name: str, *lines: bytes) -> Path:
    path = root / "journal" / "judge" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(lines))
    return path


def test_what_was_appended_is_found_at_once_and_by_the_next_run(tmp_path):
    first = StepLog(str(tmp_path), "judge")
    put(first, 1, b"1")
    put(first, 1, b"2")
    assert list(first.find(digest(1))) == [b"1", b"2"]
    assert list(first.find(digest(2))) == []
    first.close()
    assert list(first.find(digest(1))) == [b"1", b"2"]
    again = StepLog(str(tmp_path), "judge")
    assert list(again.find(digest(1))) == [b"1", b"2"]
    assert len(again) == 2
    again.close()


def test_reading_leaves_nothing_behind(tmp_path):
    StepLog(str(tmp_path / "cache"), "judge").close()
    assert not (tmp_path / "cache").exists()


def test_what_another_log_appends_meanwhile_is_found(tmp_path):
    mine, other = StepLog(str(tmp_path), "judge"), StepLog(str(tmp_path), "judge")
    for n in range(5):
        put(other, n)
        assert list(mine.find(digest(n))) == [b"1"]
        put(mine, n + 100)
        assert list(other.find(digest(n + 100))) == [b"1"]


def test_records_come_in_the_order_of_segment_names_and_lines(tmp_path):
    write_segment(tmp_path, "b.jsonl", line(1, b"3"), line(2, b"0"), line(1, b"4"))
    write_segment(tmp_path, "a.jsonl", line(1, b"1"), line(1, b"2"))
    write_segment(tmp_path, "0.jsonl.tmp", line(1, b"0"))
    assert list(StepLog(str(tmp_path), "judge").find(digest(1))) == [b"1", b"2", b"3", b"4"]


def test_keys_that_begin_alike_are_told_apart(tmp_path):
    alike = digest(1)[:16] + "0" * 16
    write_segment(tmp_path, "a.jsonl", line(1, b"1"), line_of(alike, "0" * 16, b"2"))
    there = StepLog(str(tmp_path), "judge")
    assert list(there.find(digest(1))) == [b"1"]
    assert list(there.find(alike)) == [b"2"]


def test_a_line_that_another_process_is_writing_is_found_when_it_is_whole(tmp_path):
    path = write_segment(tmp_path, "a.jsonl", line(1), line(2)[:40])
    there = StepLog(str(tmp_path), "judge")
    assert list(there.find(digest(2))) == []
    with path.open("ab") as file:
        file.write(line(2)[40:] + line(3))
    assert list(there.find(digest(2))) == [b'{"value": 1}']
    assert list(there.find(digest(3))) == [b'{"value": 1}']
    assert there.damage == []


def test_damage_is_passed_over_and_named(tmp_path):
    path = write_segment(tmp_path, "a.jsonl", line(1), b"#" + line(2)[1:], line(3))
    there = StepLog(str(tmp_path), "judge")
    assert [len(list(there.find(digest(n)))) for n in (1, 2, 3)] == [1, 0, 1]
    assert there.damage == [f"{path}: damaged at {len(line(1))}"]


def test_damage_done_after_reading_is_never_taken_for_a_record(tmp_path):
    path = write_segment(tmp_path, "a.jsonl", line(1))
    there = StepLog(str(tmp_path), "judge")
    path.write_bytes(path.read_bytes()[:-4] + b"9}\n")
    assert list(there.find(digest(1))) == []
    assert there.damage == [f"{path}: damaged at 0"]
    path.unlink()
    assert list(there.find(digest(1))) == []


@pytest.mark.parametrize("length", [1, step_log._A_PIECE - 1, step_log._A_PIECE, 3 * step_log._A_PIECE])
def test_a_line_of_any_length_is_read_whole(tmp_path, length):
    long = line(1, b'{"value": "%s"}' % (b"x" * length))
    write_segment(tmp_path, "a.jsonl", long, line(2))

    (found,) = StepLog(str(tmp_path), "judge").find(digest(1))

    assert found == b'{"value": "%s"}' % (b"x" * length)


def test_a_long_line_is_read_in_few_pieces_and_at_most_twice_over(tmp_path, monkeypatch):
    long, read = line(1, b'{"value": "%s"}' % (b"x" * (1 << 20))), []
    write_segment(tmp_path, "a.jsonl", long, line(2, long[:-1]))
    there = StepLog(str(tmp_path), "judge")
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: read.append(len(more := pread(*given))) or more)

    assert [len(found) for found in there.find(digest(1))] == [len('{"value": ""}') + (1 << 20)]
    assert len(read) == 8  # of 8 KiB, 16 KiB, … 1 MiB
    assert len(long) <= sum(read) <= 2 * len(long)


def test_the_last_record_of_a_subject_is_found_whatever_its_key(tmp_path):
    there = StepLog(str(tmp_path), "judge", subjects=True)
    put(there, 1, b"1", subject="ab" * 8)
    put(there, 2, b"2", subject="ab" * 8)
    put(there, 3, b"3")
    assert there.last_of("ab" * 8) == b"2"
    assert there.last_of("cd" * 8) is None
    there.close()
    assert StepLog(str(tmp_path), "judge", subjects=True).last_of("ab" * 8) == b"2"


def test_a_place_that_cannot_be_written_to_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    there = StepLog(str(tmp_path / "file"), "judge")
    with pytest.raises(CannotJournal, match=r"cannot write the journal .*file.*: Not a directory"):
        put(there, 1)


BOTH = """
import sys
from transforms.journal import step_log
from tests.support.journal_lines import digest
from tests.journal.test_step_log import put
step_log.REFRESH_PERIOD_S = 0.0
root, mine, others = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
there = step_log.StepLog(root, "judge")
for n in range(300):
    put(there, mine + n, b"%d" % (mine + n))
    list(there.find(digest(others + n)))
waiting = set(range(others, others + 300))
while waiting:
    for n in list(waiting):
        found = list(there.find(digest(n)))
        assert found in ([], [b"%d" % n]), found
        if found:
            waiting.discard(n)
there.close()
assert there.damage == [], there.damage
"""


def test_two_processes_append_and_find_what_the_other_does(tmp_path):
    children = [in_a_child(BOTH, str(tmp_path), *numbers) for numbers in (("0", "1000"), ("1000", "0"))]
    for child in children:
        _, err = child.communicate(timeout=600)
        assert child.returncode == 0, err
    assert len(StepLog(str(tmp_path), "judge")) == 600
