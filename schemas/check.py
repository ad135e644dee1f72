"""Checks that records run at birth; a record that exists is a record that makes sense."""

from __future__ import annotations

import math
from collections.abc import Collection


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
    require(value in allowed, f"{name} must be one of {', '.join(sorted(allowed))}", value)


def require_fraction(name: str, value: float) -> None:
    """Refuse what is not a finite number in [0, 1]."""
    require(math.isfinite(value) and 0.0 <= value <= 1.0, f"{name} must lie in [0, 1]", value)


def require_span(start_s: float, end_s: float) -> None:
    """Refuse a time span that is not finite, starts before zero or ends before it starts (seconds)."""
    finite = math.isfinite(start_s) and math.isfinite(end_s)
    require(finite and 0.0 <= start_s <= end_s, "a span needs 0 <= start_s <= end_s", (start_s, end_s))
