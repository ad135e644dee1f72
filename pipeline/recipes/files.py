"""Recipes as files: found by name or path, and read as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pipeline.recipes.errors import RecipeError
from schemas.configuration.section import did_you_mean
from schemas.configuration.values import read_yaml


def recipe_names() -> list[str]:
    """The recipes that come with the project."""
    folder = resources.files("pipeline.recipes")
    return sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))


def recipe_text(name: str) -> str:
    """The YAML of a recipe, by name or by path.

    Raises:
        RecipeError: there is no such recipe.
    """
    if name in recipe_names():
        return resources.files("pipeline.recipes").joinpath(f"{name}.yaml").read_text("utf-8")
    if not name.endswith((".yaml", ".yml")):
        raise RecipeError(f"recipe {name!r} is not known{did_you_mean(name, recipe_names())}; a file ends in .yaml")
    try:
        return Path(name).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {name!r} cannot be read: {error}") from error


def recipe_values(name: str) -> dict[str, Any]:
    """The plain values of a recipe, by name or by path, put over those of the recipe that it ``extends``.

    Sections are put over sections, key by key; an engine that is another takes the place of its whole section, and so
    do first stages. A relative path is relative to the file that names it.

    Raises:
        RecipeError: there is no such recipe, it is no mapping, or it extends itself.
    """
    return _values(name, ())


def _values(name: str, above: tuple[str, ...]) -> dict[str, Any]:
    values = read_yaml(recipe_text(name), f"recipe {name!r}", RecipeError)
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {name!r} must be a mapping of sections")
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise RecipeError(f"recipe {name!r}: extends names one recipe, such as extends: rankvideo")
    if base not in recipe_names():
        base = str(Path(name).parent / base)
    if base in (name, *above):
        raise RecipeError(f"recipe {name!r} extends itself: {' -> '.join((*above, name, base))}")
    return _put_over(_values(base, (*above, name)), values)


def _put_over(base: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    over = dict(base)
    if "first_stage" in values:
        over.pop("first_stages", None)
    for key, value in values.items():
        before = base.get(key)
        if isinstance(value, Mapping) and isinstance(before, dict) and key != "first_stages":
            same = value.get("engine", before.get("engine")) == before.get("engine")
            over[key] = _put_over(before, value) if same else value
        else:
            over[key] = value
    return over
