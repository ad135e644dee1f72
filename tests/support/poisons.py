"""Engines that go wrong as native code can; light, for each child process that one kills is followed by another."""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from schemas.video import EngineStamp
from transforms.engines.pyav import PyAv
from transforms.protocols.frames import FramePolicy, Image, SampledFrames
from transforms.protocols.screen_text import TextBox
from transforms.workers.child_limits import memory_bytes


def crash() -> None:
    ctypes.string_at(0)


def take_all_memory() -> None:
    bytearray(int(0.9 * memory_bytes()))


def hang_with_the_interpreter() -> None:
    ctypes.PyDLL(None).sleep(1000)


def hang_out_of_reach() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    hang_with_the_interpreter()


POISONS = {
    "crash": crash,
    "memory": take_all_memory,
    "hang": hang_with_the_interpreter,
    "unreachable": hang_out_of_reach,
}


COLOURS = {"crash": (255, 0, 0), "memory": (0, 255, 0), "hang": (0, 0, 255)}


@dataclass(frozen=True)
class PoisonedDecoder:
    """PyAV, but for files that are named for what they do to it."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> PoisonedDecoder:
        return self

    def stamp(self) -> EngineStamp:
        return EngineStamp("poisoned", "1", "", "d" * 16)

    def sample(self, path: str, policy: FramePolicy) -> SampledFrames:
        POISONS.get(Path(path).stem, str)()
        return PyAv().load().sample(path, policy)


@dataclass(frozen=True)
class PoisonedReader:
    """Reads the same words in every picture, but for pictures of one plain colour."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> PoisonedReader:
        return self

    def stamp(self) -> EngineStamp:
        return EngineStamp("poisoned", "1", "", "e" * 16)

    def read(self, images: Sequence[Image]) -> list[list[TextBox]]:
        for name, colour in COLOURS.items():
            if np.abs(images[0][-8:].mean(axis=(0, 1)) - colour).max() < 60:
                POISONS[name]()
        return [[] for _ in images]


@dataclass(frozen=True)
class Saboteur:
    """A decoder that goes wrong as native code can, and only on files whose name says so."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self):
        return self

    def stamp(self) -> EngineStamp:
        return EngineStamp("saboteur", "1", "", "1")

    def sample(self, path, policy):
        import ctypes

        name = Path(path).name
        if name == "segfault.mp4":
            ctypes.string_at(0)
        if name == "hang.mp4":
            ctypes.CDLL(None).sleep(1000)
        if name == "no-temporary-folder.mp4":
            raise FileNotFoundError("No usable temporary directory found")
        if name == "mistake.mp4":
            raise AttributeError("a mistake in the program")
        return PyAv().load().sample(path, policy)


@dataclass(frozen=True)
class Swapped:
    """A decoder whose file is replaced, or removed, just before it is read."""

    path: str
    then: str
    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self):
        return self

    def stamp(self) -> EngineStamp:
        return EngineStamp("swapped", "1", "", "1")

    def sample(self, path, policy):
        if self.then:
            Path(path).write_text(self.then)
        else:
            Path(path).unlink()
        return PyAv().load().sample(path, policy)


@dataclass(frozen=True)
class Deafening(Saboteur):
    """A decoder in whose process the sound meets the worst of native code."""

    def load(self):
        import ctypes

        from transforms.extract import decode_file

        decode_file.write_audio = lambda *_: ctypes.CDLL(None).abort()
        return self

    def stamp(self) -> EngineStamp:
        return EngineStamp("deafening", "1", "", "1")


@dataclass(frozen=True)
class Unloadable(Saboteur):
    """A decoder without the system library that it needs."""

    def load(self):
        raise ImportError("libGL.so.1: cannot open shared object file")
