"""What an ASR engine can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from schemas.video import AsrSegment

Samples = NDArray[np.int16]  # [n], mono at 16 kHz
SAMPLE_RATE_HZ = 16_000


class SpeechRecognizer(Protocol):
    """A loaded ASR model."""

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        """Segments of each window (at most 30 s), times in seconds from the window's start, in window order."""
