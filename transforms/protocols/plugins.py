"""Engines of other distributions, by the entry points that these declare: plug-ins."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points

GROUP = "hardquery.engines"  # an entry point is named MODALITY.NAME, such as asr.vosk = "hardquery_vosk:Vosk"


@dataclass(frozen=True, slots=True)
class Plugin:
    """An engine of another distribution: what a recipe calls it, where its class is, and what brought it."""

    modality: str
    name: str
    where: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """The distribution and its version, as the engine's stamp has it."""
        return f"{self.distribution} {self.version}"


@cache
def plugins() -> tuple[Plugin, ...]:
    """All that are installed, in the order of their names, whether or not they can be used."""
    found = [_plugin(point) for point in entry_points(group=GROUP)]
    return tuple(sorted(set(found), key=lambda plugin: (plugin.modality, plugin.name, plugin.origin)))


def _plugin(point: EntryPoint) -> Plugin:
    modality, _, name = point.name.partition(".")
    dist = point.dist
    return Plugin(modality, name, point.value, dist.name if dist else "?", dist.version if dist else "?")


@cache
def origin_of(kind: type) -> str:
    """The distribution and version of a plug-in's class, "" for any other."""
    package = kind.__module__.partition(".")[0]
    near = (plugin for plugin in plugins() if plugin.where.partition(":")[0].partition(".")[0] == package)
    return next((plugin.origin for plugin in near if _class_at(plugin.where) is kind), "")


def _class_at(where: str) -> object:
    module, _, cls = where.partition(":")
    return getattr(importlib.import_module(module), cls, None)


def named(known: Iterable[Plugin], modality: str, name: str) -> list[Plugin]:
    """Those that a recipe means by a name; it should be one."""
    return [plugin for plugin in known if (plugin.modality, plugin.name) == (modality, name)]
