"""What a captioner can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.usage import Usage
from transforms.protocols.frames import Frame


@dataclass(frozen=True, slots=True)
class Caption:
    """What a captioner said of a video; ``usage`` is None where nothing is billed, or the server does not say."""

    text: str
    usage: Usage | None = None


class Captioner(Protocol):
    """A loaded captioner."""

    def caption(self, frames: Sequence[Frame]) -> Caption:
        """A factual description of the video that these frames (time order, at least one) were sampled from."""
