from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from transforms.engines.registry import find_engine
from transforms.engines.whisper import MODELS, Whisper
from transforms.engines.whisper_segments import LANGUAGES, is_doubtful, is_silent, repeats_itself, timed_pieces
from transforms.protocols.engine import EngineError
from transforms.protocols.speech import Samples

T = 100  # the first timestamp token in these tests


@dataclass
class Result:
    tokens: tuple[int, ...] = ()
    avg_logprob: float = -0.1
    no_speech_prob: float = 0.0
    compression_ratio: float = 1.0


def test_text_between_timestamps_becomes_timed_pieces():
    tokens = [T + 0, 1, 2, T + 60, T + 80, 3, T + 140]
    assert list(timed_pieces(tokens, T, end=1500)) == [(0, 60, [1, 2]), (80, 140, [3])]


def test_text_that_no_timestamp_opens_or_closes_reaches_to_the_edges():
    assert list(timed_pieces([1, T + 60, 2], T, end=1500)) == [(0, 60, [1]), (60, 1500, [2])]


def test_timestamps_without_text_make_no_piece():
    assert list(timed_pieces([T, T + 5, T + 5, T + 9], T, end=1500)) == []


def test_repetition_and_improbable_text_are_doubtful_but_silence_is_not():
    assert not is_doubtful(Result())
    assert is_doubtful(Result(compression_ratio=2.5))
    assert is_doubtful(Result(avg_logprob=-1.1))
    assert repeats_itself(Result(compression_ratio=2.5))
    assert not repeats_itself(Result(avg_logprob=-1.1))
    assert not repeats_itself(Result(avg_logprob=-1.1, no_speech_prob=0.7, compression_ratio=2.5))
    assert is_silent(Result(avg_logprob=-1.1, no_speech_prob=0.7))
    assert not is_doubtful(Result(avg_logprob=-1.1, no_speech_prob=0.7))
    assert not is_silent(Result(avg_logprob=-0.1, no_speech_prob=0.7))


def test_a_missing_checkpoint_is_refused_at_construction():
    with pytest.raises(ValueError, match=r"'large-v9' is neither a file nor a model .* did you mean 'large-v"):
        Whisper(model="large-v9")
    with pytest.raises(EngineError, match=r"asr engine 'whisper': model '/no/such\.pt'"):
        find_engine("asr", {"engine": "whisper", "model": "/no/such.pt"})


def test_an_unknown_language_is_refused_at_construction():
    with pytest.raises(ValueError, match="language 'english' is not one of Whisper's"):
        Whisper(language="english")


def test_cantonese_is_refused_where_the_model_does_not_know_it():
    with pytest.raises(ValueError, match="'yue' needs one of the models large-v3"):
        Whisper(language="yue")
    Whisper(model="large-v3", language="yue")


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", "cpu\n"])
def test_an_unknown_device_is_refused_at_construction(device: str):
    with pytest.raises(ValueError, match="device must be auto"):
        Whisper(device=device)


def test_a_check_refuses_a_file_that_is_no_checkpoint(tmp_path: Path):
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(EngineError, match=r"cut\.pt' is no checkpoint"):
        Whisper(model=str(tmp_path / "cut.pt")).check()
    Whisper(model="tiny", device="cuda:1").check()


def test_the_names_and_languages_are_those_of_the_package():
    whisper = pytest.importorskip("whisper")
    tokenizer = pytest.importorskip("whisper.tokenizer")
    assert whisper.available_models() == MODELS
    assert list(tokenizer.LANGUAGES) == LANGUAGES


def test_a_check_accepts_a_checkpoint(whisper_checkpoint: Path):
    Whisper(model=str(whisper_checkpoint)).check()


@pytest.fixture(scope="session")
def recognizer(whisper_checkpoint: Path):
    return Whisper(model=str(whisper_checkpoint), device="cpu", batch_size=2).load()


@pytest.fixture(scope="session")
def noise() -> Samples:
    """A sound that the checkpoint has never heard."""
    return np.random.default_rng(0).integers(-9000, 9000, 32_000, dtype=np.int16)


def test_windows_are_recognised_in_batches_with_text_times_and_confidence(recognizer):
    from tests.support.tiny_whisper import FALLING, RISING, SILENCE

    rising, falling, silence = recognizer.recognize([RISING.sound, FALLING.sound, SILENCE])

    assert [(s.start_s, s.end_s, s.text) for s in rising] == list(RISING.pieces)
    assert [(s.start_s, s.end_s, s.text) for s in falling] == list(FALLING.pieces)
    assert all(s.confidence > 0.9 for s in (*rising, *falling))
    assert all(s.confidence < 0.1 and s.end_s <= 1.0 for s in silence)


def test_each_window_of_a_batch_has_its_own_language(recognizer):
    from tests.support.tiny_whisper import FALLING, RISING

    assert [result.language for result in recognizer.decode([RISING.sound, FALLING.sound])] == ["en", "de"]


def test_a_given_language_is_not_detected_again(whisper_checkpoint: Path):
    from tests.support.tiny_whisper import FALLING

    recognizer = Whisper(model=str(whisper_checkpoint), device="cpu", language="en").load()
    assert recognizer.decode([FALLING.sound])[0].language == "en"


def test_confidence_is_token_probability_times_speech_probability(recognizer):
    from tests.support.tiny_whisper import RISING

    result = recognizer.decode([RISING.sound])[0]
    (segment,) = recognizer.recognize([RISING.sound])[0]
    assert segment.confidence == pytest.approx(math.exp(result.avg_logprob) * (1 - result.no_speech_prob), rel=1e-3)


def test_only_the_row_that_repeats_itself_climbs_the_temperatures(recognizer):
    from tests.support.tiny_whisper import RISING, STUCK

    rising, stuck = recognizer.decode([RISING.sound, STUCK.sound])
    assert (rising.temperature, stuck.temperature) == (0.0, 1.0)
    assert stuck.text.startswith("no no no no")


def test_a_result_does_not_depend_on_what_was_recognised_before(recognizer, noise: Samples):
    from tests.support.tiny_whisper import RISING, STUCK

    first = recognizer.recognize([STUCK.sound, noise])
    recognizer.recognize([noise, RISING.sound])
    assert recognizer.recognize([STUCK.sound, noise]) == first


def test_the_stamp_follows_the_bytes_of_the_checkpoint_not_its_place(whisper_checkpoint: Path, tmp_path: Path):
    engine = Whisper(model=str(whisper_checkpoint))
    elsewhere = tmp_path / "copy.pt"
    elsewhere.write_bytes(whisper_checkpoint.read_bytes())

    assert engine.stamp().model.startswith("sha256:")
    assert engine.stamp() == Whisper(model=str(elsewhere), device="cpu", batch_size=1).stamp()
    assert engine.stamp() != replace(engine, language="de").stamp()


def test_what_a_model_computes_in_is_named_and_does_not_follow_the_machine():
    half = Whisper(device="cuda", precision="float16")

    assert half.stamp() != Whisper(device="cuda").stamp() == Whisper(device="cpu").stamp() == Whisper().stamp()
    for device in ("auto", "cpu", "mps"):
        with pytest.raises(ValueError, match=f"precision float16 needs device cuda or cuda:N, got '{device}'"):
            Whisper(device=device, precision="float16")
