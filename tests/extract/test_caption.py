from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from schemas.video import Evidence, MediaFacts, Video
from transforms.engines.stand_ins.pixels import Pixels
from transforms.extract.caption import CaptionFrames, caption, caption_video
from transforms.journal.journal import Journal
from transforms.media.frame_pack import write_frame_pack
from transforms.protocols.caption import Caption
from transforms.protocols.engine import EngineError, stamp_of
from transforms.protocols.frames import Frame
from transforms.storage.cache import Cache
from transforms.workers.engine_at_work import EngineFailed


@dataclass(frozen=True)
class TimesTeller:
    """Says at which times its frames were taken, or ``says``; ``fails`` names where it raises an error instead."""

    says: str | None = None
    fails: str = ""

    requires = ()
    extra = ""

    def load(self):
        if self.fails == "loading":
            raise OSError("the weights are gone")
        return self

    def stamp(self):
        return stamp_of(self, "times", "")

    def caption(self, frames: Sequence[Frame]) -> Caption:
        if self.fails == "for good":
            raise EngineError("the key was refused")
        if self.fails == "allocating":
            np.empty(1 << 60, np.uint8)  # numpy raises a MemoryError of its own kind
        if self.fails == "with the run":
            raise CancelledError
        if self.fails == "speaking":
            raise ConnectionError("server\nhung up")
        return Caption(" ".join(f"{frame.time_s:g}" for frame in frames) if self.says is None else self.says)


def video(count: int = 10) -> Video:
    return Video("v", "file:v", MediaFacts("0" * 64, 1), Evidence(), "pack" if count else None, count)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    frames = [Frame(float(t), np.full((36, 64, 3), 20 * t, dtype=np.uint8)) for t in range(10)]
    write_frame_pack(str(tmp_path / "made"), frames, quality=90)
    cache = Cache(str(tmp_path / "cache"))
    cache.publish(str(tmp_path / "made"), "pack")
    return cache


def test_a_video_gets_a_caption_and_the_stamp_of_the_captioner(cache, journal):
    captioned = caption_video(video(), TimesTeller("A red disc."), cache, journal)
    assert captioned.evidence.caption == "A red disc."
    assert [(use.part, use.engine.name) for use in captioned.engines] == [("caption", "times")]


def test_the_captioner_sees_so_many_frames_evenly_spread(cache, journal):
    assert caption_video(video(), TimesTeller(), cache, journal, max_frames=4).evidence.caption == "1 3 6 8"
    assert caption_video(video(), TimesTeller(), cache, journal, max_frames=1).evidence.caption == "5"


def test_fewer_frames_than_that_are_all_seen(cache, journal):
    assert caption_video(video(), TimesTeller(), cache, journal).evidence.caption == "0 1 2 3 4 5 6 7 8 9"


def test_control_characters_are_removed_and_white_space_is_folded():
    assert caption(TimesTeller(" A\x00 red\n\tdisc.\u202e "), []).text == "A red disc."


def test_a_video_without_pictures_passes_through(cache, journal):
    assert caption_video(video(0), TimesTeller(), cache, journal) == video(0)


def test_a_captioner_that_fails_on_one_video_leaves_a_warning(cache, journal):
    captioned = caption_video(video(), TimesTeller(fails="speaking"), cache, journal)
    assert captioned == video().warned("caption", "engine failed", "ConnectionError: server hung up")


def test_a_lack_of_memory_is_called_so_whatever_its_library_calls_it(cache, journal):
    (warning,) = caption_video(video(), TimesTeller(fails="allocating"), cache, journal).warnings
    assert (warning.reason, "Unable to allocate" in warning.message) == ("out of memory", True)


def test_a_captioner_that_says_nothing_leaves_a_warning(cache, journal):
    captioned = caption_video(video(), TimesTeller(" \x07 "), cache, journal)
    assert captioned == video().warned("caption", "engine failed", "the captioner said nothing")


def test_long_errors_are_cut():
    with pytest.raises(EngineFailed) as error:
        caption(_Chatty(), [])
    assert len(str(error.value)) == 500


@dataclass(frozen=True)
class _Chatty(TimesTeller):
    def caption(self, frames: Sequence[Frame]) -> Caption:
        raise ValueError("no " * 1000)


def test_a_captioner_that_cannot_be_loaded_stops_the_run(cache, journal):
    with pytest.raises(OSError, match="the weights are gone"):
        caption_video(video(), TimesTeller(fails="loading"), cache, journal)


def test_the_transform_captions_every_video(cache, journal):
    with TestPipeline() as pipeline:
        captioned = pipeline | beam.Create([video(), video(0)]) | CaptionFrames(Pixels(), cache, journal)
        assert_that(
            captioned.videos | beam.Map(lambda one: one.evidence.caption.partition(",")[0]), equal_to(["One shot", ""])
        )


def test_an_engine_that_cannot_work_at_all_stops_the_run(cache: Cache, journal: Journal):
    with pytest.raises(EngineError, match="the key was refused"):
        caption_video(video(), TimesTeller(fails="for good"), cache, journal)


def test_a_call_that_was_cut_short_with_the_run_is_no_failure_of_the_video(cache: Cache, journal: Journal):
    with pytest.raises(CancelledError):
        caption_video(video(), TimesTeller(fails="with the run"), cache, journal)

    assert not journal.holds("caption")
