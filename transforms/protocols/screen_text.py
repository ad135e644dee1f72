"""What an OCR engine can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.video import Box
from transforms.protocols.frames import Image


@dataclass(frozen=True, slots=True)
class TextBox:
    """One line of text that OCR found in one image."""

    text: str
    box: Box
    confidence: float


class TextReader(Protocol):
    """A loaded OCR model."""

    def read(self, images: Sequence[Image]) -> list[list[TextBox]]:
        """The lines of each image, top to bottom then left to right, in image order."""
