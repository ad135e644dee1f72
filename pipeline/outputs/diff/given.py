"""What two runs were given and what they used, compared by their manifests: recipe, engines, prompts, version."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import unified_diff
from functools import cached_property
from typing import Any, Literal

from pipeline.outputs.manifest import Manifest, by_role
from pipeline.outputs.tables import Row
from pipeline.outputs.thresholds import ALPHAS, fitted_text
from pipeline.recipes.sections import key_of
from schemas.tables import row_of

CauseKind = Literal["unknown", "input", "recipe", "engine", "prompt", "deferred", "people", "version"]

_NAMES = ("name", "description")  # of a recipe: they decide nothing
_NOT_SET = object()


@dataclass(frozen=True, slots=True, order=True)
class Cause:
    """Why a row differs; ``through`` names what the cause changed first, empty where it is the row itself."""

    kind: CauseKind
    text: str
    through: str = ""

    def __str__(self) -> str:
        return f"{self.text} (through {self.through})" if self.through else self.text


Causes = frozenset[Cause]
NOTHING: Causes = frozenset()


def through(causes: Causes, what: str) -> Causes:
    """The causes of something that a row was made from, as causes of that row."""
    return frozenset(replace(cause, through=what) for cause in causes)


def no_cause(what: str) -> Cause:
    """That nothing which decides ``what`` differs: the same question had two answers."""
    return Cause("unknown", f"no cause found in the manifests: {what}")


class Given:
    """The differences between the manifests of A and B, as the causes that they are."""

    def __init__(self, a: Manifest, b: Manifest) -> None:
        self.a = a
        self.b = b

    @cached_property
    def values(self) -> dict[str, tuple[Any, Any]]:
        """Recipe values that differ, by dotted key."""
        return dict(_differing(self.a.recipe, self.b.recipe, ""))

    def recipe(self, *keys: str) -> Causes:
        """The recipe values that differ among ``keys``, each a value or a whole section."""
        return frozenset(
            Cause("recipe", f"recipe {path}: {change(*values)}")
            for path, values in self.values.items()
            if path not in _NAMES
            and any(f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}.") for key in keys)
        )

    @property
    def thresholds(self) -> Causes:
        """Thresholds that are fitted by the same rule to other margins, and so another number."""
        fitted = ((name, fitted_text(self.a, name), fitted_text(self.b, name)) for name in ALPHAS)
        return frozenset(
            Cause("recipe", f"curate.{name}: {a} -> {b}")
            for name, a, b in fitted
            if a and b and not self.recipe(f"curate.{name}") and a != b
        )

    def listed(self, section: str, key: str, default: Collection[str]) -> tuple[set[str], set[str]]:
        """What a list in the recipes of A and of B holds, such as the modalities that a stage sees."""
        a, b = (set(manifest.recipe.get(section, {}).get(key, default)) for manifest in (self.a, self.b))
        return a, b

    def engine(self, role: str) -> Causes:
        """How the engines of a role differ, by the manifests."""
        a, b = (row_of(used[role]) if role in used else None for used in (self.a.engines, self.b.engines))
        return self.stamps(role, a, b)

    def first_stages(self) -> Causes:
        """How the first stages differ, by the manifests: their engines, what they read, and how they are fused."""
        roles = [role for role in {**self.a.engines, **self.b.engines} if role.startswith("first_stages.")]
        both = [role for role in roles if role in self.a.engines and role in self.b.engines]
        options = [f"mine.{role}.{option}" for role in both for option in ("fields", "search")]
        return NOTHING.union(*map(self.engine, roles), self.recipe("mine.fusion", *options))

    def own_filters(self) -> Causes:
        """How filters of other distributions differ, by the manifests."""
        roles = [role for role in {**self.a.engines, **self.b.engines} if role.startswith("filters.")]
        return NOTHING.union(*map(self.engine, roles))

    def panel(self) -> Causes:
        """How the further judges differ, by the manifests: their engines, and when they are asked and heeded."""
        roles = [role for role in {**self.a.engines, **self.b.engines} if role.startswith("panel.")]
        return NOTHING.union(*map(self.engine, roles), self.recipe("judge.panel_rules"))

    def stamps(self, role: str, a: Row | None, b: Row | None) -> Causes:
        """How two stamps in rows differ; those of different engines differ by name, whatever else they do."""
        if a == b:
            return NOTHING
        if a is None or b is None or a["name"] != b["name"]:
            return frozenset({Cause("engine", f"{role} engine: {change(_engine(a), _engine(b))}")})
        found = {
            Cause("engine", f"{role} {part}: {change(a[part], b[part])}")
            for part in ("version", "model")
            if a[part] != b[part]
        }
        options = self.recipe(key_of(role)) if a["fingerprint"] != b["fingerprint"] else NOTHING
        found |= {Cause("engine", cause.text.replace("recipe", f"{role} options:", 1)) for cause in options}
        if role == "caption" and not options and a["name"] == "openai":
            found |= self.prompt("caption")  # which is part of this engine's stamp
        return frozenset(found) or frozenset({Cause("engine", f"{role} options")})

    def prompt(self, name: str) -> Causes:
        """Whether a prompt file differs."""
        a, b = (prompts[name].version if name in prompts else None for prompts in (self.a.prompts, self.b.prompts))
        if a == b:
            return NOTHING
        return frozenset({Cause("prompt", f"prompt {name}: {a and a[:8]} -> {b and b[:8]}")})

    @property
    def version(self) -> Causes:
        """Whether other code wrote the outputs: ours, or that of a library."""
        a, b = ({"hardquery": manifest.hardquery, **manifest.libraries} for manifest in (self.a, self.b))
        differing = [name for name in a if name in b and a[name] != b[name]]
        return frozenset(Cause("version", f"{name}: {a[name]} -> {b[name]}") for name in differing)

    @property
    def labels(self) -> Causes:
        """Whether people marked other things as wrong."""
        a, b = (
            f"{sum(used.marks.values())} ({used.sha256[:8]})" if used else "none"
            for used in (self.a.labels, self.b.labels)
        )
        return NOTHING if a == b else frozenset({Cause("people", f"marks by people: {a} -> {b}")})

    def explain(self, what: str, *found: Causes) -> Causes:
        """The first of ``found`` that holds any cause, else the version of the code, else that ``what`` has none."""
        return next((causes for causes in (*found, self.version) if causes), frozenset({no_cause(what)}))

    def all(self) -> list[Cause]:
        """Every difference, in the order of the pipeline; options are named as recipe values, and not again as such."""
        found = [Cause("recipe", f"recipe {path}: {change(*values)}") for path, values in self.values.items()]
        for role in by_role({**self.a.engines, **self.b.engines}):
            found += sorted(cause for cause in self.engine(role) if " options: " not in cause.text)
        for name in sorted({*self.a.prompts, *self.b.prompts}):
            found += self.prompt(name)
        found += [
            Cause("input", f"{name}: {change(*values)}")
            for name in ("input", "entries", "runner")
            if (values := (getattr(self.a, name), getattr(self.b, name)))[0] != values[1]
        ]
        return [*dict.fromkeys(found), *sorted(self.thresholds), *self.labels, *self.version]

    def prompt_lines(self, name: str) -> list[str]:
        """A unified diff of a prompt's text in A and in B; its paragraphs are single lines."""
        a, b = (used[name].text.splitlines() if name in used else [] for used in (self.a.prompts, self.b.prompts))
        return list(unified_diff(a, b, f"A/{name}.txt", f"B/{name}.txt", lineterm="", n=0))


def change(a: Any, b: Any) -> str:
    """Two values as "a -> b"."""
    return f"{_shown(a)} -> {_shown(b)}"


def _shown(value: Any) -> str:
    if value is _NOT_SET:
        return "(not set)"
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _engine(stamp: Row | None) -> str:
    if stamp is None:
        return "none"
    return " ".join(part for part in (stamp["name"], stamp["version"], stamp["model"]) if part)


def _differing(a: Any, b: Any, path: str) -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in dict.fromkeys((*a, *b)):
            yield from _differing(a.get(key, _NOT_SET), b.get(key, _NOT_SET), f"{path}.{key}" if path else key)
    elif a != b:
        yield path, (a, b)
