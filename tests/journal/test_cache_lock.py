import os
import signal
import socket
import threading

import pytest

from tests.support.journal_lines import in_a_child
from transforms.journal.journal import Journal
from transforms.journal.record import Key
from transforms.storage.cache_lock import CacheInUse, having_alone, sharing

SHARE = """
import sys
from transforms.storage.cache_lock import sharing
with sharing(sys.argv[1]):
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_many_share_and_who_wants_it_alone_is_refused_with_a_name(tmp_path):
    named = pytest.raises(CacheInUse, match=f"in use by process {os.getpid()} on {socket.gethostname()}; wait")
    with sharing(str(tmp_path)), sharing(str(tmp_path)), named:
        having_alone(str(tmp_path)).__enter__()
    with having_alone(str(tmp_path)):
        pass


def test_only_one_has_it_alone(tmp_path):
    with having_alone(str(tmp_path)), pytest.raises(CacheInUse):
        having_alone(str(tmp_path)).__enter__()


def test_who_wants_to_share_waits_for_who_has_it_alone(tmp_path):
    shared = threading.Event()

    def share() -> None:
        with sharing(str(tmp_path)):
            shared.set()

    with having_alone(str(tmp_path)):
        thread = threading.Thread(target=share)
        thread.start()
        assert not shared.wait(0.05)
    assert shared.wait(300)
    thread.join()


def test_kill_9_releases_a_share_and_the_dead_are_not_named(tmp_path):
    with in_a_child(SHARE, str(tmp_path)) as child:
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(CacheInUse, match=f"process {child.pid} on"):
            having_alone(str(tmp_path)).__enter__()
        child.send_signal(signal.SIGKILL)
    with sharing(str(tmp_path)), pytest.raises(CacheInUse) as refused:
        having_alone(str(tmp_path)).__enter__()
    assert f"process {child.pid} on" not in str(refused.value)
    with having_alone(str(tmp_path)):
        assert (tmp_path / ".in-use").read_bytes() == b""


def test_a_place_that_cannot_be_written_to_can_be_shared_but_not_had_alone(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with sharing(str(tmp_path / "file" / "cache")):
        pass
    with pytest.raises(OSError, match="Not a directory"):
        having_alone(str(tmp_path / "file" / "cache")).__enter__()


def test_a_remote_cache_knows_no_locks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with sharing("objects://bucket/cache"), having_alone("objects://bucket/cache"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_journal_shares_its_cache_until_it_is_closed(tmp_path):
    journal = Journal(str(tmp_path))
    assert journal.once(Key("judge", "q"), lambda: 1, int) == 1
    with pytest.raises(CacheInUse):
        having_alone(str(tmp_path)).__enter__()
    journal.close()
    with having_alone(str(tmp_path)):
        pass
