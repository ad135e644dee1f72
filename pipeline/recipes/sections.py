"""Which places of a recipe hold an engine, in which role, or a fitted threshold; and what to write where a bare word
stands in one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.recipes.errors import RecipeError
from schemas.configuration.section import did_you_mean
from transforms.engines.registry import engine_names

ENGINES = {
    "extract.decode": "decode",
    "extract.asr": "asr",
    "extract.ocr": "ocr",
    "extract.caption": "caption",
    "synthesize.teacher": "teacher",
    "synthesize.parser": "parser",
    "synthesize.negative_queries.teacher": "teacher",
    "synthesize.negative_queries.verifier": "teacher",
    "mine.first_stage": "first_stage",
    "judge.teacher": "teacher",
    "judge.parser": "parser",
}
"""The sections that are an engine and its options, by modality."""
_SEVERAL = {
    "synthesize.own_filters": "query_filter",
    "mine.first_stages": "first_stage",
    "judge.panel": "teacher",
}  # the sections that hold engines under names of their own
_ROLES = {
    "decode": "extract.decode",
    "asr": "extract.asr",
    "ocr": "extract.ocr",
    "caption": "extract.caption",
    "writer": "synthesize.teacher",
    "writer_parser": "synthesize.parser",
    "filters": "synthesize.own_filters",
    "first_stages": "mine.first_stages",
    "judge": "judge.teacher",
    "judge_parser": "judge.parser",
    "panel": "judge.panel",
    "negatives": "synthesize.negative_queries.teacher",
    "verifier": "synthesize.negative_queries.verifier",
}  # the section of a role, or of its kind where there are several by name
_THRESHOLDS = {
    "curate.alpha1": "a number of nats, {quantile: 0.3} or {calibrated: 0.02}",
    "curate.alpha2": "a number of nats or {quantile: 0.3}",
}


def key_of(role: str) -> str:
    """The section that holds the engine of a role.

    >>> key_of("writer"), key_of("panel.second")
    ('synthesize.teacher', 'judge.panel.second')
    """
    kind, dot, name = role.partition(".")
    return f"{_ROLES[kind]}{dot}{name}"


def modality_of(key: str) -> str:
    """The modality of the engine that stands at a key; "" where none does."""
    return ENGINES.get(key) or _SEVERAL.get(key.rpartition(".")[0], "")


def require_no_bare_words(values: Mapping[str, Any]) -> None:
    """Refuse ``ocr: tesseract`` and ``alpha1: calibrated``, in one line with what to write instead.

    A word that is none of ours is not repeated: it may be a secret.

    Raises:
        RecipeError: a word stands where an engine or a fitted threshold is written as a mapping.
    """
    for key, modality, given in _engines(values):
        if isinstance(given, str):
            names = engine_names(modality)
            known = did_you_mean(given, names) if names else ": only plug-ins have some, and none is installed"
            instead = f"{{engine: {given}}}" if given in names else f"{{engine: NAME}}{known}"
            raise RecipeError(f"recipe key {key}: an engine is a mapping of its name and options; write {instead}")
    for key, instead in _THRESHOLDS.items():
        if isinstance(_at(values, key), str):
            raise RecipeError(f"recipe key {key}: write {instead}")


def _engines(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Key, modality and value of every place of an engine."""
    for key, modality in ENGINES.items():
        yield key, modality, _at(values, key)
    for key, modality in _SEVERAL.items():
        several = _at(values, key)
        if isinstance(several, Mapping):
            yield from ((f"{key}.{name}", modality, each) for name, each in several.items())
        else:
            yield from ((key, modality, each) for each in (several if isinstance(several, list) else [several]))


def _at(values: Any, key: str) -> Any:
    for name in key.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return values
