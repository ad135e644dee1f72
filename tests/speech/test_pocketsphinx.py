from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from schemas.video import AsrSegment
from tests.support.error_rates import word_error_rate
from tests.support.sounds import read_track
from transforms.engines.pocketsphinx import Pocketsphinx, PocketsphinxRecognizer, Word, split_at_pauses
from transforms.media.vad import speech_spans
from transforms.protocols.speech import SAMPLE_RATE_HZ

pytest.importorskip("pocketsphinx")


def test_words_are_split_at_pauses_of_half_a_second():
    near, after, far = Word(0.0, 0.5, "a", 1.0), Word(0.9, 1.0, "b", 1.0), Word(1.5, 1.6, "c", 1.0)
    assert split_at_pauses([near, after, far]) == [[near, after], [far]]
    assert split_at_pauses([]) == []


def test_the_stamp_names_package_version_and_model():
    stamp = Pocketsphinx().stamp()
    assert (stamp.name, stamp.model) == ("pocketsphinx", "en-us")
    assert stamp.version.startswith("5.1")


@pytest.fixture(scope="session")
def recognizer() -> PocketsphinxRecognizer:
    return Pocketsphinx().load()


def test_windows_too_short_for_a_word_have_no_segments(recognizer: PocketsphinxRecognizer):
    windows = [np.zeros(n, np.int16) for n in (0, 1, 160, 480)]
    assert recognizer.recognize(windows) == [[], [], [], []]


def test_a_result_does_not_depend_on_what_was_recognised_before(recognizer: PocketsphinxRecognizer, extra_media: Path):
    speech = read_track(extra_media / "audio/ss_0930.wav")
    noise = np.random.default_rng(0).integers(-9000, 9000, 16_000, dtype=np.int16)

    (alone,) = recognizer.recognize([speech])
    _, after_noise = recognizer.recognize([noise, speech])

    assert alone
    assert after_noise == alone


def test_segments_have_times_words_and_confidence(recognizer: PocketsphinxRecognizer, extra_media: Path):
    track = read_track(extra_media / "audio/jfk.flac")[: 5 * SAMPLE_RATE_HZ]
    (segments,) = recognizer.recognize([track])

    assert word_error_rate("And so my fellow Americans: ask not", text(segments)) < 0.5
    assert not any(mark in text(segments) for mark in "<>[]()")
    assert len(segments) >= 2  # he pauses
    times = [time for segment in segments for time in (segment.start_s, segment.end_s)]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] <= len(track) / SAMPLE_RATE_HZ


def test_read_sentences_keep_most_of_their_words(recognizer: PocketsphinxRecognizer, extra_media: Path):
    rates = []
    for number in ("0880", "0890", "0930"):
        said = (extra_media / f"audio/ss_{number}.txt").read_text()
        spans = list(speech_spans([read_track(extra_media / f"audio/ss_{number}.wav")]))
        heard = recognizer.recognize([span.samples for span in spans])
        rates.append(word_error_rate(said, " ".join(map(text, heard))))
    assert fmean(rates) < 0.45


def text(segments: list[AsrSegment]) -> str:
    return " ".join(segment.text for segment in segments)
