"""Every key of a recipe, with its value, default, unit and a sentence; and the same as a schema for editors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any, get_args

import msgspec

from pipeline.config import Recipe
from pipeline.recipes.sections import ENGINES
from transforms.engines.registry import engine_names


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a recipe: dotted path, default (None where it has none or that is null), unit, and what it is."""

    path: str
    required: bool
    default: Any
    unit: str
    about: str


def keys() -> list[Key]:
    """All keys, in the order of the sections."""
    return list(_keys(Recipe, ""))


def _keys(kind: type[msgspec.Struct], path: str) -> Iterator[Key]:
    for field in msgspec.structs.fields(kind):
        name = f"{path}{field.name}"
        kinds = [kind for kind in (get_args(field.type) or (field.type,)) if kind is not type(None)]
        if len(kinds) == 1 and _is_section(kinds[0]):  # where a number may stand as well, it is a value
            yield from _keys(kinds[0], f"{name}.")
            continue
        made = None if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        default = made if field.default is msgspec.NODEFAULT else field.default
        yield Key(name, field.required, msgspec.to_builtins(default), *about(name))


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def about(path: str) -> tuple[str, str]:
    """Unit ("" for none) and sentence of a key.

    Raises:
        KeyError: nobody has written one.
    """
    for pattern, told in _table().items():
        if fnmatchcase(path, pattern):
            return told
    raise KeyError(path)


@cache
def _table() -> Mapping[str, tuple[str, str]]:
    text = resources.files("pipeline.recipes").joinpath("keys.tsv").read_text("utf-8")
    rows = (line.split("\t") for line in text.splitlines())
    return {pattern: (unit, sentence) for pattern, unit, sentence in rows}


def full_text(recipe: Recipe) -> str:
    """A recipe with every key, a line each: its value, and behind it the unit, the sentence, and another default."""
    values = recipe.as_dict()
    lines = [f"# {recipe.name}: {recipe.description}"]
    for key in keys():
        value = _at(values, key.path)
        unit = f"[{key.unit}] " if key.unit else ""
        other = "" if key.required or value == key.default else f" (default: {_shown(key.default)})"
        lines.append(f"{key.path}: {_shown(value)}  # {unit}{key.about}{other}")
    return "\n".join(lines) + "\n"


def _at(values: Mapping[str, Any], path: str) -> Any:
    found: Any = values
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found[name]
    return found


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()  # which is YAML


def editor_schema() -> dict[str, Any]:
    """The JSON schema of a recipe file, for editors that complete and check YAML."""
    (schema,), components = msgspec.json.schema_components([Recipe], ref_template="#/$defs/{name}")
    recipe = components[schema["$ref"].rpartition("/")[2]]
    for component in components.values():
        component.pop("required", None)  # what a file does not say may come from the recipe that it extends
    recipe["properties"]["extends"] = {"type": "string", "description": about("extends")[1]}
    for path, key in [(key.path, key) for key in keys()]:
        place = _property(components, recipe, path)
        if not path.startswith(("costs.", "judge.evidence", "synthesize.evidence")):  # sections used in several places
            place["description"] = f"{key.about} [{key.unit}]" if key.unit else key.about
        if path in ENGINES and (names := engine_names(ENGINES[path])):
            place["properties"] = {"engine": {"enum": names}}
    first = _property(components, recipe, "mine.first_stages")
    mine = components["MineConfig"]["properties"]
    mine["first_stages"] = {"anyOf": [first, {"type": "array", "items": {"type": "object"}}]}
    judge = components["JudgeConfig"]["properties"]
    judge["panel"] = {"anyOf": [judge["panel"], {"type": "array", "items": {"type": "object"}}]}
    mine["first_stage"] = {"type": "object", "description": "short for first_stages with only one"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **recipe, "$defs": components}


def _property(components: Mapping[str, Any], section: dict[str, Any], path: str) -> dict[str, Any]:
    *above, last = path.split(".")
    for name in above:
        place = section["properties"][name]
        refs = [each["$ref"] for each in (place, *place.get("anyOf", ())) if "$ref" in each]
        section = components[refs[0].rpartition("/")[2]]
    found: dict[str, Any] = section["properties"][last]
    return found
