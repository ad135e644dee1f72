"""Recipes as files: found by name or path, and read as plain values."""

from __future__ import annotations

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
    """The plain values of a recipe, by name or by path.

    Raises:
        RecipeError: there is no such recipe, or it is no mapping.
    """
    values = read_yaml(recipe_text(name), f"recipe {name!r}", RecipeError)
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {name!r} must be a mapping of sections")
    return values
