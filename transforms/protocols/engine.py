"""What every engine has: options that are cheap to carry, a stamp, and a model that is loaded once a process.

An engine comes in two halves. The *engine* is a frozen dataclass of options: cheap, hashable, picklable, importable
without its heavy library. ``load()`` imports the library and returns the *model* that does the work, once a process.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import importlib.util
import platform
import sys
import threading
from dataclasses import fields
from typing import Any, ClassVar, Protocol, runtime_checkable

from schemas.fingerprint import fingerprint
from schemas.video import EngineStamp
from transforms.protocols.plugins import origin_of


class EngineError(ValueError):
    """An engine that cannot be had, in one line that names the fix."""


class MissingPackage(EngineError):
    """An engine whose library is not installed; ``extra`` of this project would bring it, "" where nothing can here."""

    def __init__(self, engine: str, package: str, extra: str) -> None:
        self.engine, self.package = engine, package
        self.extra = extra if _is_to_be_had(package) else ""
        here = f"Python {sys.version_info[0]}.{sys.version_info[1]} on {platform.machine()}"
        fix = (
            f"pip install 'hardquery[{extra}]'" if self.extra else f"it has no release for {here}; name another engine"
        )
        super().__init__(f"{engine} needs the package {package!r}: {fix}")


def _is_to_be_had(package: str) -> bool:
    """Whether the project's own requirements of this package, if any, are meant for this Python and machine."""
    from packaging.requirements import Requirement  # which a child that decodes does without

    ours = [Requirement(each) for each in importlib.metadata.requires("hardquery") or ()]
    markers = [each.marker for each in ours if each.name == package and each.marker]
    extras = importlib.metadata.metadata("hardquery").get_all("Provides-Extra") or []
    return not markers or any(marker.evaluate({"extra": extra}) for marker in markers for extra in extras)


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
    """The stamp of an engine whose library is the given distribution ("" for one that has none but what it comes with).

    The version of a plug-in's engine begins with its own distribution.
    """
    origin = origin_of(engine.__class__)
    version = version_of(distribution or "hardquery")
    if origin:
        version = f"{origin}, {distribution} {version}" if distribution else origin
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
