"""OCR with rapidocr: PP-OCRv6 small, whose models come inside the package; reads Latin script, Chinese and Japanese."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from schemas.video import EngineStamp
from transforms.engines.ocr.text_boxes import reading_order, upright_box
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Image
from transforms.protocols.screen_text import TextBox

_MODEL = "PP-OCRv6 small"
_SURE = 0.95  # a single line is read with at least this confidence, or two lines share its box
_STACKED_ASPECT = 3.0  # width over height below which a box may hold two lines
_OVERLAP = 0.05  # of the box's height that each half takes from the other: descenders reach down


@dataclass(frozen=True)
class RapidOcr:
    """Options of rapidocr.

    ``limit_side`` bounds the longer side of the image that the detector sees, in pixels: 640 costs a third of the
    library's default and finds as many lines on 720p frames. Lines below ``min_confidence`` are dropped: text-free
    pictures give such single words.
    """

    limit_side: int = 640
    min_confidence: float = 0.8

    requires: ClassVar[tuple[str, ...]] = ("rapidocr", "onnxruntime")
    extra: ClassVar[str] = "embedded"

    def __post_init__(self) -> None:
        if self.limit_side < 32:
            raise ValueError(f"limit_side must be at least 32 pixels, got {self.limit_side}")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"min_confidence must lie in [0, 1], got {self.min_confidence}")

    def load(self) -> RapidOcrReader:
        """Build the pipeline on one thread; the models are read on the first image."""
        from rapidocr import RapidOCR

        params = {
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Global.log_level": "critical",
            "Global.text_score": 0.0,  # unsure boxes may be two lines in one; dropped after they are read again
            "Global.use_cls": False,  # turns upside-down lines; costs a pass and changes no line of upright video
            "Det.limit_side_len": self.limit_side,
            "Det.limit_type": "max",
        }
        return RapidOcrReader(RapidOCR(params=params), self.min_confidence)

    def stamp(self) -> EngineStamp:
        """Name, version, model and options."""
        return stamp_of(self, "rapidocr", "rapidocr", _MODEL)


class RapidOcrReader:
    """rapidocr as a ``TextReader``."""

    def __init__(self, ocr: Any, min_confidence: float) -> None:
        self._ocr = ocr
        self._min_confidence = min_confidence

    def read(self, images: Sequence[Image]) -> list[list[TextBox]]:
        """The lines of each RGB image [height, width, 3], in reading order; single characters are dropped."""
        return [self._read_one(image) for image in images]

    def _read_one(self, image: Image) -> list[TextBox]:
        bgr = np.ascontiguousarray(image[:, :, ::-1])  # what the library takes an array to be
        found = self._ocr(bgr)
        if found.txts is None:
            return []
        height, width = image.shape[:2]
        lines = [
            line
            for corners, text, score in zip(found.boxes, found.txts, found.scores, strict=True)
            for line in self._unstacked(bgr, TextBox(text, upright_box(corners, width, height), min(float(score), 1.0)))
        ]
        return reading_order(
            line for line in lines if line.confidence >= self._min_confidence and len(line.text.strip()) >= 2
        )

    def _unstacked(self, bgr: Image, line: TextBox) -> list[TextBox]:
        """``line``, or the two lines it holds.

        The detector takes the tightly set lines of a title for one; the recogniser then sees both squeezed into one
        and is unsure. A tall, unsure box is therefore read again as two halves, which are kept if both are read better.
        """
        height, width = bgr.shape[:2]
        box = line.box
        tall = (box.right - box.left) * width < _STACKED_ASPECT * (box.bottom - box.top) * height
        if line.confidence >= _SURE or not tall:
            return [line]
        middle, overlap = (box.top + box.bottom) / 2, (box.bottom - box.top) * _OVERLAP
        left, right = round(box.left * width), round(box.right * width)
        spans = [(box.top, middle + overlap), (middle - overlap, box.bottom)]
        crops = [bgr[round(top * height) : round(bottom * height), left:right] for top, bottom in spans]
        if min(crop.size for crop in crops) == 0:
            return [line]
        read = self._ocr.recognize_txt(crops)
        if min(read.scores) <= line.confidence:
            return [line]
        halves = (replace(box, bottom=middle), replace(box, top=middle))
        return [
            TextBox(text, half, min(float(score), 1.0))
            for text, half, score in zip(read.txts, halves, read.scores, strict=True)
        ]
