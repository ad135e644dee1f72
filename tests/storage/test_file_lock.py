import os
import socket

import pytest

from tests.support.journal_lines import in_a_child
from transforms.storage.file_lock import Busy, FileLock, users_in
from transforms.workers.child_model import _turn

HOLDING = """
import sys
from transforms.storage.file_lock import FileLock
with FileLock(sys.argv[1]) as lock:
    lock.sign()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path) -> str:
    return str(tmp_path / "lock")


def test_one_alone_holds_a_lock_and_it_is_free_again_at_the_end(path):
    with FileLock(path), pytest.raises(Busy):
        FileLock(path)
    with FileLock(path):
        pass


def test_a_shared_lock_is_held_by_many_and_excludes_who_wants_it_alone(path):
    with FileLock(path, shared=True), FileLock(path, shared=True), pytest.raises(Busy):
        FileLock(path)
    with FileLock(path), pytest.raises(Busy):
        FileLock(path, shared=True)


def test_another_process_is_named_and_its_end_releases_the_lock(path):
    with in_a_child(HOLDING, path) as child:
        assert child.stdout.readline() == "held\n"
        with pytest.raises(Busy, match=f"{path} is locked by process {child.pid} on {socket.gethostname()}"):
            FileLock(path)
        child.kill()
    with FileLock(path) as lock:
        assert users_in(lock.read()) == ""


def test_what_a_file_held_is_not_touched_by_locking_it(tmp_path, path):
    (tmp_path / "lock").write_bytes(b"precious")
    with FileLock(path) as lock:
        assert lock.read() == b"precious"
    assert (tmp_path / "lock").read_bytes() == b"precious"


def test_a_link_is_not_followed(tmp_path, path):
    (tmp_path / "target").write_bytes(b"precious")
    os.symlink(tmp_path / "target", path)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(path)
    os.unlink(path)
    os.symlink(tmp_path / "none", path)
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(path)
    assert (tmp_path / "target").read_bytes() == b"precious"
    assert not (tmp_path / "none").exists()


def test_a_file_that_was_put_in_the_place_of_the_locked_one_is_locked_apart_and_not_removed(path):
    with FileLock(path) as first:
        os.unlink(path)
        assert not first.is_in_place()
        with FileLock(path) as second:
            first.remove()
            assert second.is_in_place()
            second.remove()
    assert not os.path.exists(path)


def test_a_folder_is_locked_as_it_is(tmp_path):
    with FileLock(str(tmp_path), folder=True), pytest.raises(Busy):
        FileLock(str(tmp_path), folder=True)
    assert not list(tmp_path.iterdir())


def test_models_are_loaded_one_at_a_time_and_a_planted_link_harms_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with _turn("Kind"), pytest.raises(Busy):
        FileLock(str(tmp_path / "hardquery" / "loading-Kind.lock"))
    (tmp_path / "target").write_bytes(b"precious")
    os.symlink(tmp_path / "target", tmp_path / "hardquery" / "loading-Other.lock")

    with _turn("Other"):
        pass

    assert (tmp_path / "target").read_bytes() == b"precious"


def test_models_are_loaded_where_no_lock_can_be_put_down(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with _turn("Kind"):
        pass
