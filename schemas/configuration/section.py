"""Sections: records made of plain values, which refuse an unknown key and a senseless value by the key's path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from schemas.check import read_plain

T = TypeVar("T")

_WHERE = re.compile(r"(?P<rule>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_NO_CHOICE = re.compile(r"Invalid enum value '(.*)'")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping of a configuration file; a key that it does not know is an error."""


def converted(values: Mapping[str, Any], kind: type[T], what: str, error: type[ValueError]) -> T:
    """Plain values as a record of ``kind``, a ``Section`` of sections.

    Raises:
        ``error``: a key is unknown or missing, or a value makes no sense; one line with ``what`` and the key's path.
    """
    try:
        return read_plain(values, kind)
    except msgspec.ValidationError as problem:
        found = _WHERE.fullmatch(str(problem))
        rule, path = (found["rule"], found["path"] or "") if found else (str(problem), "")
        unknown = _UNKNOWN.fullmatch(rule)
        if unknown:
            key = f"{path}.{unknown[1]}".lstrip(".")
            raise error(f"{what} {key} is not known{did_you_mean(unknown[1], _keys_at(kind, path))}") from problem
        other = _NO_CHOICE.fullmatch(rule)
        choices = _choices_at(kind, path) if other else []
        if other and choices:
            raise error(f"{what} {path}: {other[1]!r} is no choice{did_you_mean(other[1], choices)}") from problem
        got = _number_at(values, path)
        raise error(f"{what} {path or '(top level)'}: {rule[0].lower()}{rule[1:]}{got}") from problem


def _keys_at(kind: Any, path: str) -> list[str]:
    for name in filter(None, re.sub(r"\[.*?\]", "", path).split(".")):
        hint = get_type_hints(kind)[name]
        kind = next(k for k in (hint, *get_args(hint)) if isinstance(k, type) and issubclass(k, Section))
    return list(kind.__struct_fields__)


def _choices_at(kind: Any, path: str) -> list[str]:
    """What may be written at ``path``, be it a value, one of a list or None; empty where that is no choice of words."""
    for name in re.sub(r"\[.*?\]", "", path).split("."):
        sections = [k for k in (kind, *get_args(kind)) if isinstance(k, type) and issubclass(k, Section)]
        kind = get_type_hints(sections[0]).get(name) if sections else None
    literals = [k for k in (kind, *get_args(kind)) if get_origin(k) is Literal]
    return [choice for literal in literals for choice in get_args(literal)]


def _number_at(values: Any, path: str) -> str:
    """``, got 7`` where a number stands at ``path``; other values may be secrets."""
    for name in path.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return f", got {values!r}" if isinstance(values, (int, float)) else ""


def did_you_mean(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """``; did you mean 'x'?`` where one of ``known`` begins so or is close, then the whole list."""
    begun = [name for name in known if word and name.startswith(word)]  # the half of a name that somebody remembers
    close = begun or get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(known)})"
