"""A recipe's plain values with settings put over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from pipeline.recipes.errors import RecipeError
from pipeline.recipes.sections import modality_of
from schemas.configuration.values import with_settings
from transforms.engines.registry import engine_options

Note = Callable[[str], object]


def unheard(_: str) -> None:
    """For whom notes do not matter."""


def changed(values: Mapping[str, Any], settings: Iterable[str], note: Note = unheard) -> dict[str, Any]:
    """A recipe's plain values with ``a.b=value`` settings put over them.

    One of ``mine.first_stage`` takes the place of all first stages that the recipe has; its rules are then of that one.
    One of ``….engine`` takes away the options of the engine before that the new one does not have.

    Raises:
        RecipeError: a setting that is none.
    """
    settings = list(settings)
    over = deepcopy(dict(values))
    mine = over.get("mine")
    if isinstance(mine, dict) and any(setting.startswith("mine.first_stage=") for setting in settings):
        mine.pop("first_stages", None)
        for section, naming in (("ambiguity", "run"), ("margin", "run"), ("fusion", "weights"), ("fusion", "quotas")):
            if isinstance(rule := mine.get(section), dict):
                rule.pop(naming, None)
    over = with_settings(over, settings, RecipeError)
    for setting in settings:
        key = setting.partition("=")[0].strip()
        if key.endswith(".engine"):
            _drop_options_of_before(over, dict(values), key.removesuffix(".engine"), settings, note)
    return over


def _drop_options_of_before(
    over: dict[str, Any], values: dict[str, Any], key: str, settings: Sequence[str], note: Note
) -> None:
    """Take out of the section ``key`` what the recipe gave another engine and the one named now does not have."""
    section, before = _at(over, key), _at(values, key)
    if section is None or before is None or section["engine"] == before.get("engine"):
        return
    modality = modality_of(key)
    known = engine_options(modality, section["engine"]) if modality else None
    if known is None:
        return  # whoever looks for the engine says so
    dropped = [name for name in before if name in section and name not in (*known, "engine", "fields", "search")]
    dropped = [name for name in dropped if not any(given.startswith(f"{key}.{name}") for given in settings)]
    for name in dropped:
        del section[name]
    if dropped:
        swap = f"{section['engine']} in place of {before.get('engine')}"
        note(f"{key}: {swap}, whose {', '.join(dropped)} it does not have")


def _at(values: dict[str, Any], key: str) -> dict[str, Any] | None:
    for name in key.split("."):
        found = values.get(name)
        if not isinstance(found, dict):
            return None
        values = found
    return values
