"""Sound of the sample clips: speech from flite, a quiet melody, or near silence."""

from __future__ import annotations

import subprocess
import tempfile
import wave
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

RATE_HZ = 16_000
LEAD_S = 0.5  # before the first word
_PENTATONIC_HZ = (261.6, 293.7, 329.6, 392.0, 440.0, 523.3)


def speech(text: str, voice: str, seconds: float) -> NDArray[np.int16]:
    """``text`` spoken by a flite voice, at 16 kHz, padded to ``seconds``.

    Raises:
        ValueError: the words need more time than the clip has.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        with wave.open(str(path)) as file:
            assert (file.getframerate(), file.getnchannels()) == (RATE_HZ, 1), f"voice {voice} is not 16 kHz mono"
            spoken = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    track = silence(seconds)
    start = round(LEAD_S * RATE_HZ)
    if start + len(spoken) > len(track):
        raise ValueError(f"{len(spoken) / RATE_HZ + LEAD_S:.1f} s of speech in a clip of {seconds} s: {text}")
    track[start : start + len(spoken)] += spoken // 2 * 2  # keep the faint noise in the lowest bits
    return track


def tones(name: str, seconds: float) -> NDArray[np.int16]:
    """A slow melody of plucked notes that follows from ``name`` alone."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    track = np.zeros(round(seconds * RATE_HZ))
    for start in range(0, len(track), RATE_HZ * 2 // 5):
        t = np.arange(len(track) - start) / RATE_HZ
        hz = random.choice(_PENTATONIC_HZ)
        track[start:] += np.exp(-3 * t) * (np.sin(2 * np.pi * hz * t) + 0.3 * np.sin(4 * np.pi * hz * t))
    melody: NDArray[np.int16] = (track / np.abs(track).max() * 9000).astype(np.int16)
    return melody


def silence(seconds: float) -> NDArray[np.int16]:
    """A quiet room: noise one step high, as a microphone would give."""
    return np.random.default_rng(0).integers(-1, 2, round(seconds * RATE_HZ)).astype(np.int16)
