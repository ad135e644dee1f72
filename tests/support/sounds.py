"""Sound for tests: real tracks, and babble that passes for speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples


def read_track(path: Path) -> Samples:
    """The best sound track of a media file."""
    av = pytest.importorskip("av")
    resampler = av.AudioResampler("s16", "mono", SAMPLE_RATE_HZ)
    with av.open(str(path)) as container:
        frames = [*container.decode(container.streams.best("audio")), None]
        return np.concatenate([part.to_ndarray()[0] for frame in frames for part in resampler.resample(frame)])


def babble(seconds: float) -> Samples:
    """Vowels in turn, four syllables a second, at 120 Hz: no words, but voice enough for a voice activity detector."""
    time = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    pitch_hz = 120 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE_HZ
    formants_hz = np.array([(700, 1200, 2600), (300, 2300, 3000), (400, 800, 2400)])[(4 * time).astype(int) % 3]
    voice = np.zeros_like(time)
    for harmonic in range(1, 30):
        distance = (harmonic * pitch_hz[:, None] - formants_hz) / (80, 120, 160)
        voice += (1 / (1 + distance**2)).sum(axis=1) * np.sin(harmonic * phase)
    voice *= np.clip(np.sin(2 * np.pi * 4 * time) + 0.7, 0, 1)
    return (9000 * voice / np.abs(voice).max()).astype(np.int16)


def write_flac(path: Path, samples: Samples) -> None:
    """Write 16 kHz mono samples as the cache holds them."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", format="flac") as file:
        stream = file.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.rate = SAMPLE_RATE_HZ
        file.mux([*stream.encode(frame), *stream.encode(None)])
