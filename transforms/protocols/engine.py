"""What every engine has: options that are cheap to carry, a stamp, and a model that is loaded once a process.

An engine comes in two halves. The *engine* is a frozen dataclass of options: cheap, hashable, picklable, importable
without its heavy library. ``load()`` imports the library and returns the *model* that does the work, once a process.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import threading
from dataclasses import fields
from typing import Any, ClassVar, Protocol, runtime_checkable

from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp


class EngineError(ValueError):
    """An engine that cannot be had, in one line that names the fix."""


_models: dict[tuple[type, Any], Any] = {}
_loading = threading.Lock()


def loaded(engine: Any) -> Any:
    """The engine's model, loaded on first use and kept for the life of the process; safe to call from threads."""
    key = (type(engine), engine)
    with _loading:
        if key not in _models:
            _models[key] = engine.load()
        return _models[key]


version_of = functools.cache(importlib.metadata.version)
"""The version of an installed distribution; stamps are made for every element, and looking it up reads a file."""


def stamp_of(engine: Any, name: str, distribution: str, model: str = "") -> EngineStamp:
    """The stamp of an engine whose library is the given distribution ("" for engines of this project)."""
    version = version_of(distribution or "hardquery")
    options = {f.name: getattr(engine, f.name) for f in fields(engine)}
    return EngineStamp(name, version, model, fingerprint([name, version, model, options]))


class Engine(Protocol):
    """Options of one engine, chosen by name in the recipe."""

    requires: ClassVar[tuple[str, ...]]  # importable module names
    extra: ClassVar[str]  # the optional extra of this project that installs them

    def load(self) -> Any:
        """Import the library, load the weights, return the model. Called once a process."""

    def stamp(self) -> EngineStamp:
        """Name, version, model and options' fingerprint, without loading anything heavy."""


@runtime_checkable
class Waits(Protocol):
    """Options of an engine that waits for a server instead of computing here, and is best asked much at a time."""

    @property
    def at_once(self) -> int:
        """How many threads of one process are to ask it at once."""
