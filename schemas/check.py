"""Checks that records run at birth, and how they are read and pickled; a record that exists is one that makes sense."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection
from dataclasses import fields
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}
_learning = threading.Lock()


class InvalidRecord(ValueError):
    """A record was given a value that breaks one of its rules; the message names both."""


def require(holds: bool, rule: str, value: object) -> None:
    """Raise InvalidRecord naming ``rule`` and ``value`` unless ``holds``."""
    if not holds:
        raise InvalidRecord(f"{rule}, got {value!r}")


def require_text(name: str, value: str) -> None:
    """Refuse an empty or blank string."""
    require(bool(value.strip()), f"{name} must not be blank", value)


def require_one_of(name: str, value: str, allowed: Collection[str]) -> None:
    """Refuse a value outside a closed vocabulary."""
    if value not in allowed:  # records are made by the million, and the rule need not be put into words for each
        raise InvalidRecord(f"{name} must be one of {', '.join(sorted(allowed))}, got {value!r}")


def require_fraction(name: str, value: float) -> None:
    """Refuse what is not a finite number in [0, 1]."""
    if not 0.0 <= value <= 1.0:  # nor is what is no number
        raise InvalidRecord(f"{name} must lie in [0, 1], got {value!r}")


def require_span(start_s: float, end_s: float) -> None:
    """Refuse a time span that is not finite, starts before zero or ends before it starts (seconds)."""
    finite = math.isfinite(start_s) and math.isfinite(end_s)
    require(finite and 0.0 <= start_s <= end_s, "a span needs 0 <= start_s <= end_s", (start_s, end_s))


def read_json(data: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """JSON as ``kind``, with its types and rules checked.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError: it is no JSON, or not such a record.
    """
    value: T = _learned(kind).decode(data)
    return value


def read_plain(value: object, kind: type[T]) -> T:
    """Dicts, lists, texts and numbers as ``kind``, with its types and rules checked.

    Raises:
        msgspec.ValidationError: it is no such record.
    """
    _learned(kind)
    return msgspec.convert(value, kind)


def _learned(kind: Any) -> msgspec.json.Decoder[Any]:
    """msgspec (0.22) looks at a class when it first reads one, and two threads that make it do so at once crash the
    process. So every kind is learned under a lock, before it is read.
    """
    if kind not in _decoders:
        with _learning:
            if kind not in _decoders:
                _decoders[kind] = msgspec.json.Decoder(kind)
    return _decoders[kind]


def pickled_by_fields(kind: type[T]) -> type[T]:
    """Of a frozen dataclass with slots: what is pickled is the values of its fields, in their order, as Python has it.

    Python's own way finds the fields of a class anew for every record, and records are moved by the million: a tenth of
    the time of a small run.

    The fields are those of ``kind``. A subclass with more of them is to be a frozen dataclass with slots itself, which
    Python pickles by its own fields; of any other, what it adds is lost.
    """
    names = tuple(field.name for field in fields(kind))  # type: ignore[arg-type]

    def state(self: T) -> list[object]:
        return [getattr(self, name) for name in names]

    def restore(self: T, values: list[object]) -> None:
        for name, value in zip(names, values, strict=True):
            object.__setattr__(self, name, value)

    kind.__getstate__ = state  # type: ignore[method-assign, assignment]
    kind.__setstate__ = restore  # type: ignore[attr-defined]
    return kind
