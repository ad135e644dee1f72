"""What a first stage reads of a video's evidence: which fields, and with which weight."""

from __future__ import annotations

from typing import Annotated

import msgspec

from schemas.check import require
from schemas.configuration.section import Section
from schemas.video import MODALITIES, Evidence, Modality

Weight = Annotated[int, msgspec.Meta(ge=0)]


class FieldWeights(Section, frozen=True):
    """How often each field of the evidence counts; one of weight 0 is left out."""

    caption: Weight = 1
    asr: Weight = 1
    ocr: Weight = 1
    metadata: Weight = 1

    def __post_init__(self) -> None:
        require(any(self.by_field().values()), "fields must leave at least one of weight above 0", self.by_field())

    def by_field(self) -> dict[Modality, int]:
        """All weights, in the fixed order of the fields."""
        return {name: getattr(self, name) for name in MODALITIES}


EVEN = FieldWeights()


def document_text(evidence: Evidence, weights: FieldWeights = EVEN) -> str:
    """The text of a video for word statistics, its fields joined by newlines; empty where it has no words.

    A field's text stands there as often as its weight says, so that its words count so many times before the length of
    the document and the saturation of BM25 are reckoned (Robertson, Zaragoza & Taylor, CIKM 2004).
    """
    texts = (text for name, weight in weights.by_field().items() for text in [evidence.text(name)] * weight)
    return "\n".join(text for text in texts if text.strip())
