"""Sounds that hold no speech, made on the spot: silence, noise and music, to hear what a recogniser makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

SECONDS = 20.0
_LOUD = 9000  # of 32767: well above a gate by loudness

_MELODY = (0, 4, 7, 12, 9, 7, 5, 4, 2, 5, 9, 11, 12, 7, 4, 0)  # half tones above the key
_CHORDS = ((0, 4, 7), (9, 12, 16), (5, 9, 12), (7, 11, 14))  # the turn of many a song: I vi IV V
_BEATS_PER_S = 2.0
_KEY_HZ = 220.0

Sound = NDArray[np.float64]


def non_speech(seconds: float = SECONDS, seed: int = 0) -> dict[str, Samples]:
    """Each kind of sound by name, ``seconds`` of it; the same bytes for the same seed."""
    time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    return {
        name: _as_samples(make(time, np.random.default_rng([seed, number])))
        for number, (name, make) in enumerate(_KINDS.items())
    }


def _silence(time: Sound, _: np.random.Generator) -> Sound:
    return np.zeros_like(time)


def _hiss(time: Sound, rng: np.random.Generator) -> Sound:
    """White noise."""
    return rng.normal(size=len(time))


def _wind(time: Sound, rng: np.random.Generator) -> Sound:
    """Noise whose power falls with the square of its frequency from 100 Hz on, and swells every few seconds."""
    spectrum = np.fft.rfft(rng.normal(size=len(time)))
    hertz = np.fft.rfftfreq(len(time), 1 / SAMPLE_RATE_HZ)
    return np.fft.irfft(spectrum / np.maximum(hertz, 100.0), len(time)) * (1.2 + np.sin(2 * np.pi * time / 5))


def _hum(time: Sound, _: np.random.Generator) -> Sound:
    """Mains hum with its overtones."""
    return sum((np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3, 5, 7)), np.zeros_like(time))


def _clicks(time: Sound, rng: np.random.Generator) -> Sound:
    """Short knocks, some three a second."""
    sound = np.zeros_like(time)
    knock = np.exp(-np.arange(400) / 60) * np.sin(np.arange(400) * 0.4)
    for start in rng.integers(0, max(1, len(time) - len(knock)), size=round(3 * time[-1])):
        sound[start : start + len(knock)] += knock
    return sound


def _music(time: Sound, rng: np.random.Generator) -> Sound:
    """A melody over chords and a drum."""
    beat = (time * _BEATS_PER_S).astype(int)
    since = time - beat / _BEATS_PER_S
    melody = _tone(time, np.array(_MELODY)[beat % len(_MELODY)] + 12) * np.exp(-3 * since)
    chord = sum(
        (_tone(time, np.array(_CHORDS)[beat // 4 % len(_CHORDS), voice]) for voice in range(3)), np.zeros_like(time)
    )
    drum = rng.normal(size=len(time)) * np.exp(-40 * since)
    return melody + 0.3 * chord + 0.5 * drum


def _tone(time: Sound, half_tones: NDArray[np.int_]) -> Sound:
    """A plucked tone with overtones; its phase runs on where the pitch changes."""
    phase = 2 * np.pi * np.cumsum(_KEY_HZ * 2 ** (half_tones / 12)) / SAMPLE_RATE_HZ
    return sum((np.sin(k * phase) / k**2 for k in range(1, 6)), np.zeros_like(time))


_KINDS: Mapping[str, Callable[[Sound, np.random.Generator], Sound]] = {
    "silence": _silence,
    "hiss": _hiss,
    "wind": _wind,
    "hum": _hum,
    "clicks": _clicks,
    "music": _music,
}


def _as_samples(sound: Sound) -> Samples:
    loudest = float(np.abs(sound).max(initial=0.0))
    samples: Samples = (sound * (_LOUD / loudest if loudest else 0.0)).astype(np.int16)
    return samples
