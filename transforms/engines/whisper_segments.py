"""What every engine that runs Whisper shares: its languages, which windows are doubtful, and tokens into segments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

from schemas.configuration.section import did_you_mean
from schemas.video import AsrSegment
from transforms.protocols.speech import SAMPLE_RATE_HZ

# What openai-whisper knows, repeated here because importing it takes seconds; a test holds the two together.
LANGUAGES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su yue"
).split()
# The other models know one language less.
CANTONESE_MODELS = ("large-v3", "large", "large-v3-turbo", "turbo", "distil-large-v3", "distil-large-v3.5")

# Thresholds of whisper.transcribe.
_MAX_COMPRESSION_RATIO = 2.4  # more is one phrase over and over
_MIN_AVG_LOGPROB = -1.0
_NO_SPEECH = 0.6
_WINDOW_S = 30


class Decoded(Protocol):
    """A decoded window, with the names of ``whisper.DecodingResult``; ``avg_logprob`` is the mean a token, in nats."""

    @property
    def tokens(self) -> Sequence[int]: ...
    @property
    def avg_logprob(self) -> float: ...
    @property
    def no_speech_prob(self) -> float: ...
    @property
    def compression_ratio(self) -> float: ...


class Vocabulary(Protocol):
    """What the tokenizers of both libraries know: text, then ``eot`` and others, then times."""

    @property
    def eot(self) -> int: ...
    @property
    def timestamp_begin(self) -> int: ...
    def decode(self, tokens: list[int]) -> str: ...


def check_language(language: str | None, model: str, models: Sequence[str]) -> None:
    """Refuse what is no language of Whisper's, or is unknown to ``model``, where that is one of ``models`` by name.

    Raises:
        ValueError: one line that names the languages, or the models that know this one.
    """
    if language is not None and language not in LANGUAGES:
        hint = did_you_mean(language, LANGUAGES)
        raise ValueError(f"language {language!r} is not one of Whisper's{hint}")
    if language == "yue" and model in models and model not in CANTONESE_MODELS:
        knowing = ", ".join(name for name in CANTONESE_MODELS if name in models)
        raise ValueError(f"language 'yue' needs one of the models {knowing}, not {model!r}")


def is_silent(result: Decoded) -> bool:
    """Whether a decoded window holds no speech: the model says so, and is unsure of its text."""
    return bool(result.no_speech_prob > _NO_SPEECH and result.avg_logprob < _MIN_AVG_LOGPROB)


def repeats_itself(result: Decoded) -> bool:
    """Whether the text of a window that is not silent is one phrase over and over."""
    return not is_silent(result) and bool(result.compression_ratio > _MAX_COMPRESSION_RATIO)


def is_doubtful(result: Decoded) -> bool:
    """Whether a decoded window should be decoded again: its text repeats itself, or is improbable and not silence."""
    return repeats_itself(result) or (not is_silent(result) and bool(result.avg_logprob < _MIN_AVG_LOGPROB))


def segments_of(result: Decoded, samples: int, vocabulary: Vocabulary, steps: int) -> list[AsrSegment]:
    """Segments of a window of so many samples, as the model's timestamps divide it; ``steps`` of them make up 30 s.

    Confidence is exp(avg_logprob) * (1 - no_speech_prob), one value a window: the mean probability of a token, times
    that of there being speech at all.
    """
    if is_silent(result):
        return []
    confidence = math.exp(result.avg_logprob) * (1.0 - result.no_speech_prob)
    window_s = samples / SAMPLE_RATE_HZ
    segments = []
    for start, end, tokens in timed_pieces(result.tokens, vocabulary.timestamp_begin, steps):
        text = vocabulary.decode([token for token in tokens if token < vocabulary.eot]).strip()
        start_s, end_s = start * _WINDOW_S / steps, end * _WINDOW_S / steps
        if text and start_s < window_s:  # what starts later is invented in the padding
            segments.append(AsrSegment(start_s, min(end_s, window_s), text, confidence))
    return segments


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
