from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from transforms.engines.faster_whisper import MODELS, FasterWhisper, FasterWhisperRecognizer
from transforms.engines.registry import find_engine
from transforms.extract.recognize import transcribe
from transforms.protocols.engine import EngineError
from transforms.workers.child_model import run_with_model
from transforms.workers.watchdog import Limit

faster_whisper = pytest.importorskip("faster_whisper")
TINY = FasterWhisper(model="tiny")


def test_a_recipe_can_name_it():
    found = find_engine("asr", {"engine": "faster-whisper", "model": "base", "compute_type": "int8", "language": "de"})

    assert found == FasterWhisper(model="base", compute_type="int8", language="de")


def test_the_names_are_those_of_the_package():
    assert faster_whisper.available_models() == MODELS


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("model", "large-v9", "neither a folder nor a model of faster-whisper; did you mean 'large-v"),
        ("model", "/no/such/folder", "neither a folder nor a model"),
        ("language", "english", "not one of Whisper's"),
        ("language", "yue", "needs one of the models large-v3, large, .*, distil-large-v3"),
        ("device", "auto", "device must be cpu, cuda or cuda:N"),
        ("device", "cuda:", "device must be cpu, cuda or cuda:N"),
        ("compute_type", "auto", "Invalid enum value 'auto'"),
        ("beam_size", 0, "beam_size must be at least 1"),
        ("batch_size", 0, "batch_size must be at least 1"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: str, value: object, told: str):
    with pytest.raises(EngineError, match=told):
        find_engine("asr", {"engine": "faster-whisper", option: value})


def test_a_check_names_what_a_folder_lacks(tmp_path: Path):
    (tmp_path / "config.json").touch()
    with pytest.raises(EngineError, match=r"lacks model\.bin, tokenizer\.json; give the folder"):
        FasterWhisper(model=str(tmp_path)).check()
    FasterWhisper(model="tiny", device="cuda:1").check()


@pytest.mark.parametrize(
    "other",
    [
        replace(TINY, model="base"),
        replace(TINY, device="cuda"),
        replace(TINY, compute_type="int8"),
        replace(TINY, language="en"),
        replace(TINY, beam_size=1),
        replace(TINY, batch_size=2),
    ],
)
def test_whatever_decides_the_text_or_its_confidence_is_in_the_stamp(other: FasterWhisper):
    assert other.stamp().fingerprint != TINY.stamp().fingerprint


@pytest.mark.parametrize("library", ["faster-whisper", "ctranslate2"])
def test_another_version_of_a_library_is_another_stamp(library: str, monkeypatch: pytest.MonkeyPatch):
    from transforms.engines import faster_whisper as engine

    of = engine.version_of
    before = TINY.stamp().fingerprint
    monkeypatch.setattr(engine, "version_of", lambda name: "0" if name == library else of(name))

    assert TINY.stamp().fingerprint != before


def test_which_of_several_gpus_it_runs_on_is_not_in_the_stamp():
    assert replace(TINY, device="cuda:1").stamp() == replace(TINY, device="cuda").stamp()


@pytest.fixture(scope="session")
def model(whisper_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that knows three made-up sounds, as faster-whisper reads it."""
    from tests.support.tiny_whisper import write_for_ctranslate2

    folder = tmp_path_factory.mktemp("faster_whisper") / "memorised"
    write_for_ctranslate2(whisper_checkpoint, folder)
    return folder


@pytest.fixture(scope="session")
def recognizer(model: Path) -> FasterWhisperRecognizer:
    return FasterWhisper(model=str(model), batch_size=2).load()


def test_the_weights_come_back_as_they_went(whisper_checkpoint: Path, model: Path):
    import torch

    from tests.support.whisper_weights import read_ctranslate2, to_openai

    before = torch.load(whisper_checkpoint)["model_state_dict"]
    after = to_openai(read_ctranslate2(model / "model.bin"))

    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name][: len(weight)], weight.numpy()) for name, weight in before.items())


def test_a_check_accepts_a_model(model: Path):
    FasterWhisper(model=str(model)).check()


def test_windows_are_recognised_in_batches_with_text_times_and_confidence(recognizer: FasterWhisperRecognizer):
    from tests.support.tiny_whisper import FALLING, RISING, SILENCE

    rising, falling, silence = recognizer.recognize([RISING.sound, FALLING.sound, SILENCE])

    assert [(s.start_s, s.end_s, s.text) for s in rising] == list(RISING.pieces)
    assert [(s.start_s, s.end_s, s.text) for s in falling] == list(FALLING.pieces)
    assert all(s.confidence > 0.9 for s in (*rising, *falling))
    assert all(s.confidence < 0.1 and s.end_s <= 1.0 for s in silence)


def test_it_hears_what_openai_s_own_code_hears_and_is_as_sure(
    whisper_checkpoint: Path, recognizer: FasterWhisperRecognizer
):
    from tests.support.tiny_whisper import FALLING, RISING
    from transforms.engines.whisper import Whisper

    theirs = Whisper(model=str(whisper_checkpoint), device="cpu").load().decode([RISING.sound, FALLING.sound])
    ours = recognizer.decode([RISING.sound, FALLING.sound])

    for their, our in zip(theirs, ours, strict=True):
        assert our.tokens == their.tokens
        assert our.language == their.language
        assert our.avg_logprob == pytest.approx(their.avg_logprob, abs=1e-3)
        assert our.no_speech_prob == pytest.approx(their.no_speech_prob, abs=1e-3)


def test_each_window_of_a_batch_has_its_own_language(recognizer: FasterWhisperRecognizer):
    from tests.support.tiny_whisper import FALLING, RISING

    assert [result.language for result in recognizer.decode([RISING.sound, FALLING.sound])] == ["en", "de"]


def test_a_given_language_is_not_detected_again(model: Path):
    from tests.support.tiny_whisper import FALLING

    recognizer = FasterWhisper(model=str(model), language="en").load()
    assert recognizer.decode([FALLING.sound])[0].language == "en"


def test_confidence_is_token_probability_times_speech_probability(recognizer: FasterWhisperRecognizer):
    from tests.support.tiny_whisper import RISING

    result = recognizer.decode([RISING.sound])[0]
    (segment,) = recognizer.recognize([RISING.sound])[0]
    assert segment.confidence == pytest.approx(math.exp(result.avg_logprob) * (1 - result.no_speech_prob), rel=1e-5)


def test_a_row_that_repeats_itself_is_read_without_repetition_and_the_other_stays(recognizer: FasterWhisperRecognizer):
    from tests.support.tiny_whisper import RISING, STUCK

    (alone,) = recognizer.decode([RISING.sound])
    rising, stuck = recognizer.decode([RISING.sound, STUCK.sound])

    assert rising.tokens == alone.tokens
    runs = list(zip(stuck.tokens, stuck.tokens[1:], stuck.tokens[2:], strict=False))
    assert len(set(runs)) == len(runs) > 0


def test_a_result_does_not_depend_on_what_was_recognised_before(recognizer: FasterWhisperRecognizer):
    from tests.support.tiny_whisper import RISING, STUCK

    noise = np.random.default_rng(0).integers(-9000, 9000, 32_000, dtype=np.int16)
    first = recognizer.recognize([STUCK.sound, noise])
    recognizer.recognize([noise, RISING.sound])
    assert recognizer.recognize([STUCK.sound, noise]) == first


def test_the_stamp_follows_the_bytes_of_the_model_not_its_place(model: Path, tmp_path: Path):
    elsewhere = tmp_path / "copy"
    elsewhere.mkdir()
    for file in model.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    changed = tmp_path / "changed"
    elsewhere_stamp = FasterWhisper(model=str(elsewhere)).stamp()
    elsewhere.rename(changed)
    (changed / "tokenizer.json").write_bytes(b"{}")

    assert elsewhere_stamp.model.startswith("sha256:")
    assert elsewhere_stamp == FasterWhisper(model=str(model)).stamp()
    assert elsewhere_stamp != FasterWhisper(model=str(changed)).stamp()


def test_it_transcribes_in_a_child_process_as_a_run_does(model: Path, tmp_path: Path):
    from tests.support.sounds import babble, write_flac

    write_flac(tmp_path / "sound.flac", babble(3.0))
    segments = run_with_model(
        transcribe, FasterWhisper(model=str(model)), str(tmp_path / "sound.flac"), limit=Limit(60.0)
    )

    assert segments
    assert all(0 <= segment.start_s <= segment.end_s <= 3.1 for segment in segments)
