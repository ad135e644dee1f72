"""Sections: records made of plain values, which refuse an unknown key and a senseless value by the key's path."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from schemas.check import read_plain

T = TypeVar("T")

_WHERE = re.compile(r"(?P<rule>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


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
        got = _number_at(values, path)
        raise error(f"{what} {path or '(top level)'}: {rule[0].lower()}{rule[1:]}{got}") from problem


def _keys_at(kind: Any, path: str) -> list[str]:
    for name in filter(None, path.split(".")):
        hint = get_type_hints(kind)[name]
        kind = next(k for k in (hint, *get_args(hint)) if isinstance(k, type) and issubclass(k, Section))
    return list(kind.__struct_fields__)


def _number_at(values: Any, path: str) -> str:
    """``, got 7`` where a number stands at ``path``; other values may be secrets."""
    for name in path.split("."):
        values = values.get(name) if isinstance(values, Mapping) else None
    return f", got {values!r}" if isinstance(values, (int, float)) else ""


def did_you_mean(word: str, known: Mapping[str, Any] | list[str]) -> str:
    """``; did you mean 'x'?`` where one of ``known`` is close, then the whole list."""
    close = get_close_matches(word, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{hint} (known: {', '.join(known)})"
