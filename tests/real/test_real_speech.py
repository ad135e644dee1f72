"""Published Whisper weights on speech whose words are known: ``make test-real``."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from tests.support import real_weights
from tests.support.error_rates import word_error_rate
from tests.support.sounds import read_track, write_flac
from transforms.engines.faster_whisper import FasterWhisper
from transforms.engines.whisper import Whisper
from transforms.extract.recognize import transcribe
from transforms.protocols.engine import Engine
from transforms.speech.hearing import hear
from transforms.speech.non_speech import non_speech
from transforms.speech.plausible import DEFAULT_RULES

pytestmark = pytest.mark.real

# Two voices; of numbers, Whisper writes the digits.
CLIPS = ("flood_riverton_3", "flood_valdoro_3", "launch_kestrel_2", "launch_ostara_2")
READ = ("0870", "0880", "0890", "0920", "0930")
NASA = (
    "This is the optical and science segment of the Webb space telescope in one of the largest cleanrooms in the world "
    "at NASA's Goddard Space Flight Center in Greenbelt, Maryland."
)
JFK = "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your country."


def whisper_of(size: real_weights.Size) -> Engine:
    return Whisper(model=str(real_weights.whisper(size)), device="cpu")


def faster_whisper_of(size: real_weights.Size, **options: Any) -> Engine:
    return FasterWhisper(model=str(real_weights.faster_whisper(size)), **options)


ENGINES: dict[str, Callable[[], Engine]] = {
    "whisper tiny.en": partial(whisper_of, "tiny.en"),
    "whisper base": partial(whisper_of, "base"),
    "faster-whisper tiny.en": partial(faster_whisper_of, "tiny.en"),
    "faster-whisper base": partial(faster_whisper_of, "base"),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


def heard(engine: Engine, track: Path, folder: Path) -> str:
    """What the engine makes of a media file's sound track, by the step that a run takes."""
    sound = folder / f"{track.stem}.flac"
    write_flac(sound, read_track(track))
    return " ".join(segment.text for segment in transcribe(engine, str(sound)))


def spelled(text: str) -> str:
    """As the readers' texts spell it."""
    return re.sub(r"\bMr\.", "mister", text)


def test_the_sample_corpus_is_heard_as_its_script_says_it(
    engine: Engine, samples: Path, tmp_path: Path, record_property
):
    script = {clip["name"]: clip for clip in yaml.safe_load((samples / "corpus.yaml").read_text("utf-8"))["clips"]}
    rates = [
        word_error_rate(script[name]["say"], heard(engine, samples / f"videos/{name}.mp4", tmp_path)) for name in CLIPS
    ]
    record_property("word error rate", f"{fmean(rates):.3f}")

    assert fmean(rates) < 0.2


def test_read_sentences_keep_nearly_all_their_words(engine: Engine, extra_media: Path, tmp_path: Path, record_property):
    rates = []
    for number in READ:
        said = (extra_media / f"audio/ss_{number}.txt").read_text()
        text = heard(engine, extra_media / f"audio/ss_{number}.wav", tmp_path)
        rates.append(word_error_rate(said, spelled(text)))
    record_property("word error rate", f"{fmean(rates):.3f}")

    assert fmean(rates) < 0.12


@pytest.mark.parametrize(("track", "said"), [("audio/jfk.flac", JFK), ("clips/nasa_13013.mp4", NASA)])
def test_speech_of_a_real_recording_keeps_nearly_all_its_words(
    engine: Engine, track: str, said: str, extra_media: Path, tmp_path: Path, record_property
):
    text = heard(engine, extra_media / track, tmp_path)
    rate = word_error_rate(said, text)
    record_property("word error rate", f"{rate:.3f}")

    assert rate < 0.2, text


def test_what_whisper_invents_where_nobody_speaks_becomes_no_evidence(
    engine: Engine, extra_media: Path, record_property
):
    music = {name: read_track(extra_media / f"clips/{name}") for name in ("bbb_480p_30s.mp4", "moviepy_example2.mp4")}
    found = list(hear(engine, non_speech() | music, DEFAULT_RULES))
    record_property("segments invented without the gate", str(sum(len(one.invented) for one in found)))
    record_property("of them dropped by rules", str(sum(len(one.dropped) for one in found)))

    assert [one.name for one in found if one.evidence] == []


def test_a_multilingual_model_finds_the_language_that_a_recipe_may_also_state(samples: Path, tmp_path: Path):
    clip = samples / "videos/launch_kestrel_2.mp4"
    found = heard(faster_whisper_of("base"), clip, tmp_path)

    assert heard(faster_whisper_of("base", language="en"), clip, tmp_path) == found
    assert heard(faster_whisper_of("base", language="de"), clip, tmp_path) != found


def test_eight_bits_and_a_greedy_search_hear_nearly_the_same(samples: Path, tmp_path: Path):
    clip = samples / "videos/launch_kestrel_2.mp4"
    exact = heard(faster_whisper_of("tiny.en"), clip, tmp_path)

    for options in ({"compute_type": "int8"}, {"beam_size": 1}):
        assert word_error_rate(exact, heard(faster_whisper_of("tiny.en", **options), clip, tmp_path)) < 0.35
