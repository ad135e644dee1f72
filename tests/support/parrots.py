"""Speech recognisers that hear the same whatever is said, or go wrong; light, for child processes load them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from schemas.video import AsrSegment, EngineStamp
from transforms.protocols.speech import Samples


@dataclass(frozen=True)
class Parrot:
    """An engine that hears the same two things in every window, the later one first, and a blank."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> Any:
        return self

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        later, earlier = AsrSegment(1.0, 1.5, " pieces of\x00 eight ", 0.5), AsrSegment(0.0, 0.5, "hello", 0.9)
        return [[later, earlier, AsrSegment(0.5, 0.6, "\x07", 0.1)] for _ in windows]

    def stamp(self) -> EngineStamp:
        return EngineStamp("parrot", "1", "", "f")


class Deaf(Parrot):
    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        raise ValueError("cannot hear")


class Slow(Parrot):
    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        time.sleep(1000)
        return []


class Mortal(Parrot):
    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        os._exit(3)


class Unloadable(Parrot):
    def load(self) -> Any:
        raise OSError("no checkpoint")


class SlowToLoad(Parrot):
    def load(self) -> Any:
        began = time.process_time()
        while time.process_time() < began + 2.2:
            pass
        return self


class Crashing(Parrot):
    def load(self) -> Any:
        os._exit(5)


class Lacking(Parrot):
    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        raise ModuleNotFoundError("No module named 'words'")
