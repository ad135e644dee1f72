"""The error of a recipe."""

from __future__ import annotations


class RecipeError(ValueError):
    """A recipe that cannot be used; one line that names the key and the fix."""
