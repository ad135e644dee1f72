"""A reader of on-screen text that sees how bright a picture is; light, for child processes load it."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.video import Box
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Image
from transforms.protocols.screen_text import TextBox

_BOX = Box(0.1, 0.1, 0.5, 0.2)


@dataclass(frozen=True)
class BrightnessReader:
    """Reads the mean grey level of each image as its text; ``fails`` says how it fails instead."""

    fails: str = ""

    requires = ()
    extra = ""

    def load(self):
        if self.fails == "to load":
            raise OSError("the weights are gone")
        return self

    def stamp(self):
        return stamp_of(self, "brightness", "")

    def read(self, images: Sequence[Image]) -> list[list[TextBox]]:
        if self.fails == "with an error":
            raise KeyError("odd picture")
        if self.fails == "by dying":
            os._exit(3)
        if self.fails == "by hanging":
            time.sleep(1000)
        return [[TextBox(f"grey {round(float(image.mean()))}", _BOX, 0.9)] for image in images]
