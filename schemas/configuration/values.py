"""Plain values of a configuration: read from YAML, and changed by ``key=value`` settings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML whose plain words mean what they do in YAML 1.2: 1e-3 is a number, ``no`` is a word, and so is a date."""


_Loader.yaml_implicit_resolvers = {}
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


def with_settings(values: Mapping[str, Any], settings: Iterable[str], error: type[ValueError]) -> dict[str, Any]:
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
