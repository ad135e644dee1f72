import fcntl
import os
import re
import signal
import threading
import time
import urllib.parse
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pytest

from pipeline.cache.compact import compact
from pipeline.cache.contents import look_into
from tests.support.journal_lines import digest, in_a_child, line
from tests.support.object_store import ObjectStore
from transforms.journal import spool, step_log
from transforms.journal.journal import Journal
from transforms.journal.record import Key
from transforms.journal.segments import CannotJournal, line_of
from transforms.journal.step_log import StepLog
from transforms.storage import file_lock

ROOT_URL = "objects://bucket/cache"


class Folder(MutableMapping[str, bytes]):
    """Objects as files of a folder, so that several processes see the same store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, key: str) -> Path:
        return self.folder / urllib.parse.quote(key, safe="")

    def __getitem__(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError as error:
            raise KeyError(key) from error

    def __setitem__(self, key: str, value: bytes) -> None:
        self._path(key).write_bytes(value)

    def __delitem__(self, key: str) -> None:
        self._path(key).unlink()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(urllib.parse.unquote(path.name) for path in self.folder.iterdir()))

    def __len__(self) -> int:
        return sum(1 for _ in self.folder.iterdir())


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """This machine's folder of spools, and an empty store."""
    (tmp_path / "store").mkdir()
    monkeypatch.setattr(ObjectStore, "objects", Folder(tmp_path / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def put(there: StepLog, n: int, data: bytes = b"1") -> None:
    there.append(digest(n), digest(n)[:16], line_of(digest(n), digest(n)[:16], data))


def values(n: int) -> list[bytes]:
    there = StepLog(ROOT_URL, "judge")
    try:
        return list(there.find(digest(n)))
    finally:
        there.close()


def files(home: Path) -> list[str]:
    return [path.name for path in home.rglob("*") if path.is_file()]


def test_what_is_closed_is_in_the_store_and_nothing_stays_here(home):
    there = StepLog(ROOT_URL, "judge")
    put(there, 1)
    assert list(there.find(digest(1))) == [b"1"]
    there.close()
    (key,) = ObjectStore.objects
    assert re.fullmatch(rf"{ROOT_URL}/journal/judge/\d{{8}}T\d{{6}}\.\d{{6}}-\d+-\w+\.jsonl", key)
    assert values(1) == [b"1"]
    assert files(home) == []


def test_a_segment_is_sent_when_it_is_long_and_can_still_be_read(monkeypatch):
    monkeypatch.setattr(step_log, "LINES", 3)
    there = StepLog(ROOT_URL, "judge")
    for n in range(7):
        put(there, n)
    assert len(ObjectStore.objects) == 2
    assert all(list(there.find(digest(n))) == [b"1"] for n in range(7))
    there.close()
    assert len(ObjectStore.objects) == 3


def test_nobody_who_looks_something_up_waits_for_the_store(monkeypatch):
    monkeypatch.setattr(step_log, "LINES", 2)
    there = StepLog(ROOT_URL, "judge")
    answered, asked, send = threading.Event(), threading.Event(), spool.Spool._send

    def slowly(self: spool.Spool, path: str) -> None:
        asked.set()
        assert answered.wait(300)
        send(self, path)

    monkeypatch.setattr(spool.Spool, "_send", slowly)
    put(there, 1)
    sending = threading.Thread(target=put, args=(there, 2))
    sending.start()
    assert asked.wait(300)
    put(there, 3)  # nor who records what comes after
    assert [list(there.find(digest(n))) for n in (1, 2, 3)] == [[b"1"]] * 3
    answered.set()
    sending.join()
    there.close()
    assert [values(n) for n in (1, 2, 3)] == [[b"1"]] * 3


def test_a_segment_is_sent_when_it_is_old(monkeypatch):
    monkeypatch.setattr(step_log, "PERIOD_S", 0.01)
    there = StepLog(ROOT_URL, "judge")
    put(there, 1)
    end_s = time.monotonic() + 300
    while not len(ObjectStore.objects) and time.monotonic() < end_s:
        pass
    put(there, 2)
    assert [list(there.find(digest(n))) for n in (1, 2)] == [[b"1"], [b"1"]]
    there.close()


def test_a_torn_end_in_the_store_costs_the_next_segment_nothing():
    ObjectStore.objects[f"{ROOT_URL}/journal/judge/a.jsonl"] = line(1) + line(2)[:30]
    ObjectStore.objects[f"{ROOT_URL}/journal/judge/b.jsonl"] = line(3)
    ObjectStore.objects[f"{ROOT_URL}/journal/judge/c.jsonl.0123.tmp"] = line(4)
    there = StepLog(ROOT_URL, "judge")
    assert [len(list(there.find(digest(n)))) for n in (1, 2, 3, 4)] == [1, 0, 1, 0]
    assert there.damage == []
    there.close()


def test_damage_in_the_store_is_named_by_its_address():
    ObjectStore.objects[f"{ROOT_URL}/journal/judge/a.jsonl"] = b"#" + line(1)
    there = StepLog(ROOT_URL, "judge")
    assert there.damage == [f"{ROOT_URL}/journal/judge: damaged"]
    there.close()


APPEND_AND_WAIT = """
import sys, pathlib
from tests.support.object_store import ObjectStore
from tests.journal.test_spool import Folder, ROOT_URL, put
from transforms.journal.step_log import StepLog
ObjectStore.objects = Folder(pathlib.Path(sys.argv[1]))
there = StepLog(ROOT_URL, "judge")
for n in range(10):
    put(there, n)
print("ready", flush=True)
sys.stdin.read()
"""


def killed(tmp_path: Path) -> None:
    with in_a_child(APPEND_AND_WAIT, str(tmp_path / "store")) as child:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
        child.send_signal(signal.SIGKILL)


def test_what_a_killed_process_had_not_sent_is_sent_by_the_next(tmp_path, home):
    killed(tmp_path)
    assert len(ObjectStore.objects) == 0
    assert values(9) == [b"1"]
    assert len(ObjectStore.objects) == 1
    assert files(home) == []


def test_what_a_living_process_has_not_sent_is_left_to_it():
    living = StepLog(ROOT_URL, "judge")
    put(living, 1)
    assert values(1) == []
    assert len(ObjectStore.objects) == 0
    living.close()
    assert values(1) == [b"1"]


def test_a_process_that_ends_while_the_next_one_looks_at_its_spool_is_passed_over(home, monkeypatch):
    living, flock = StepLog(ROOT_URL, "judge"), fcntl.flock

    def late(lock: int, operation: int) -> None:
        if operation & fcntl.LOCK_NB:
            living.close()
        flock(lock, operation)

    monkeypatch.setattr(file_lock.fcntl, "flock", late)
    assert values(1) == []
    assert files(home) == []


def test_a_store_that_refuses_is_an_error_and_the_next_run_sends(home, monkeypatch):
    there = StepLog(ROOT_URL, "judge")
    put(there, 1)
    with monkeypatch.context() as refusing:
        refusing.setattr(ObjectStore, "create", lambda *_: (_ for _ in ()).throw(OSError("403 Forbidden")))
        with pytest.raises(CannotJournal, match=r"cannot send the journal to objects://bucket/.*403 Forbidden"):
            there.close()
    assert len(ObjectStore.objects) == 0
    assert values(1) == [b"1"]
    assert files(home) == []


def test_a_journal_that_only_looks_needs_no_right_to_write_to_the_store(monkeypatch):
    monkeypatch.setattr(ObjectStore, "create", lambda *_: (_ for _ in ()).throw(OSError("403 Forbidden")))
    looking = Journal(ROOT_URL, look_only=True)
    assert looking.once(Key("media", "a.mp4"), lambda: "hash", str) == "hash"
    looking.close()


def test_a_store_that_refuses_in_the_background_stops_the_next_append(monkeypatch):
    there = StepLog(ROOT_URL, "judge")
    put(there, 1)
    monkeypatch.setattr(spool.Spool, "_send", lambda *_: (_ for _ in ()).throw(CannotJournal("refused")))
    there._ship_late(there._own)
    with pytest.raises(CannotJournal, match="refused"):
        put(there, 2)
    with pytest.raises(CannotJournal, match="refused"):
        there.close()


def test_roots_and_steps_do_not_mix():
    there = StepLog(ROOT_URL, "judge")
    put(there, 1)
    there.close()
    for root, step in ((ROOT_URL, "write"), (f"{ROOT_URL}2", "judge")):
        other = StepLog(root, step)
        assert list(other.find(digest(1))) == []
        other.close()
    again = StepLog(f"{ROOT_URL}/", "judge")
    assert list(again.find(digest(1))) == [b"1"]
    again.close()


def test_the_spool_lies_in_this_users_cache(home):
    there = StepLog(ROOT_URL, "judge")
    assert os.path.commonpath([there._folder, home]) == str(home)
    there.close()


def test_a_machine_without_room_for_the_spool_is_one_clear_error(home):
    home.write_bytes(b"")
    with pytest.raises(CannotJournal, match=r"Not a directory; set XDG_CACHE_HOME"):
        StepLog(ROOT_URL, "judge")


def two_machines(monkeypatch, home: Path) -> tuple[StepLog, StepLog]:
    """Logs of the same root on two machines, which share nothing but the store."""
    one = StepLog(ROOT_URL, "judge")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "other"))
    return one, StepLog(ROOT_URL, "judge")


def test_what_a_bundle_recorded_is_in_the_store_before_it_counts(home):
    journal, key = Journal(ROOT_URL), Key("judge", "a pair")
    journal.once(key, lambda: "paid for", str)
    assert len(ObjectStore.objects) == 0

    journal.flush()

    (killed_now,) = ObjectStore.objects.values()
    assert b"paid for" in killed_now
    journal.flush()
    assert len(ObjectStore.objects) == 1  # and nothing is sent of nothing
    journal.close()


def test_a_bundle_that_begins_again_finds_what_other_machines_have_sent_meanwhile(monkeypatch, home):
    mine, other = two_machines(monkeypatch, home)
    put(other, 1, b"theirs")
    other.flush()
    put(other, 2, b"under way")

    mine.look_again()

    assert list(mine.find(digest(1))) == [b"theirs"]
    assert list(mine.find(digest(2))) == []
    other.flush()
    assert list(mine.find(digest(2))) == []  # one look a bundle, until so many were missed
    for missed in range(100, 100 + step_log.MISSES):
        assert list(mine.find(digest(missed))) == []
    assert list(mine.find(digest(2))) == [b"under way"]
    mine.close()
    other.close()


def test_a_look_lists_the_last_hours_and_fetches_nothing_twice(monkeypatch, home):
    ObjectStore.objects[f"{ROOT_URL}/journal/judge/20240101T000000.000000-1-a.jsonl"] = line(7, b"old")
    listed, read = [], []
    match, read_bytes = spool.match, spool.read_bytes
    monkeypatch.setattr(spool, "match", lambda pattern: listed.append(pattern) or match(pattern))
    monkeypatch.setattr(spool, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    mine, other = two_machines(monkeypatch, home)
    put(mine, 3)
    mine.flush()
    read.clear()
    for n in (1, 2):
        put(other, n)
        other.flush()
        mine.look_again()
        assert list(mine.find(digest(n))) == [b"1"]
    assert len(read) == 2
    assert all(re.search(r"/\d{8}T\d\d\*\.jsonl$", pattern) for pattern in listed)
    assert list(mine.find(digest(7))) == [b"old"]
    mine.close()
    other.close()


def test_segments_that_become_one_between_a_list_and_a_read_are_not_missed(monkeypatch, home):
    for name in "ab":
        ObjectStore.objects[f"{ROOT_URL}/journal/judge/2024010{name}.jsonl"] = line(ord(name))
    read_bytes, at_work = spool.read_bytes, []

    def compacted_first(path: str) -> bytes:
        if not at_work:
            at_work.append(path)
            compact(look_into(ROOT_URL))
        return read_bytes(path)

    monkeypatch.setattr(spool, "read_bytes", compacted_first)
    there = StepLog(ROOT_URL, "judge")
    assert all({*there.find(digest(ord(name)))} == {b'{"value": 1}'} for name in "ab")  # some of them twice
    assert len(ObjectStore.objects) == 1
    there.close()
