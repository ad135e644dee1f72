"""Configurations: YAML, changed by ``key=value`` settings, converted into records that check every key and value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import msgspec
import yaml

T = TypeVar("T")

_WHERE = re.compile(r"(?P<rule>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A mapping of a configuration file; a key that it does not know is an error."""


class _Loader(yaml.SafeLoader):
    """YAML whose plain words mean what they do in YAML 1.2: 1e-3 is a number, ``no`` is a word, and so is a date."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


for _tag, _words, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(?:inf|Inf|INF)"
        r"|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_words})\Z"), _first)


def read_yaml(text: str, where: str, error: type[ValueError]) -> Any:
    """The plain values of a YAML text.

    Raises:
        ``error``: it is not YAML; without the line itself, for somebody may have put a secret there.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as problem:
        mark, what = getattr(problem, "problem_mark", None), getattr(problem, "problem", None)
        said = f"line {mark.line + 1}: {what}" if mark else type(problem).__name__
        raise error(f"{where} is not YAML: {said}") from problem


def changed(values: Mapping[str, Any], settings: Iterable[str], error: type[ValueError]) -> dict[str, Any]:
    """Plain values with ``a.b=value`` settings put over them; a value is YAML.

    Raises:
        ``error``: a setting that is none.
    """
    over = deepcopy(dict(values))
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise error("--set: expected key=value, such as curate.alpha1=-4")  # what was given may be a secret
        *path, last = key.strip().split(".")
        section = over
        for name in path:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise error(f"--set {key}: {name!r} is a value, not a section")
        section[last] = read_yaml(text, f"--set {key}: the value", error)
    return over


def converted(values: Mapping[str, Any], kind: type[T], what: str, error: type[ValueError]) -> T:
    """Plain values as a record of ``kind``, a ``Section`` of sections.

    Raises:
        ``error``: a key is unknown or missing, or a value makes no sense; one line with ``what`` and the key's path.
    """
    try:
        return msgspec.convert(values, kind)
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
