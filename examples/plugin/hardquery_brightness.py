"""A captioner for hardquery that says how bright a video is: an engine is options, and a model that does the work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from schemas.video import EngineStamp
from transforms.protocols.caption import Caption
from transforms.protocols.engine import stamp_of
from transforms.protocols.frames import Frame


@dataclass(frozen=True)
class Brightness:
    """The options that a recipe may give: what is called dark, in grey levels of 0 to 255."""

    dark_below: float = 80.0

    requires: ClassVar[tuple[str, ...]] = ("numpy",)  # modules that are looked for before any work starts
    extra: ClassVar[str] = ""  # of hardquery; a plug-in has requirements of its own

    def load(self) -> Watcher:
        """Called once a process: the place to import a heavy library and to load weights."""
        return Watcher(self.dark_below)

    def stamp(self) -> EngineStamp:
        """What decides the result: part of the journal's keys. Options and this package's version are in it."""
        return stamp_of(self, "brightness", "", model="mean of grey")


class Watcher:
    """The model: a ``Captioner`` (transforms/protocols/caption.py)."""

    def __init__(self, dark_below: float) -> None:
        self._dark_below = dark_below

    def caption(self, frames: Sequence[Frame]) -> Caption:
        """A sentence a frame; ``frame.image`` is [height, width, 3], uint8."""
        told = ("dark" if frame.image.mean() < self._dark_below else "bright" for frame in frames)
        times = (f"at {frame.time_s:.0f} s it is {word}" for frame, word in zip(frames, told, strict=True))
        return Caption("; ".join(times).capitalize() + ".")
