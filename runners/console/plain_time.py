"""A length of time as people say it."""

from __future__ import annotations


def plain_time(seconds: float) -> str:
    """``42 s``, ``3 min 20 s`` or ``1 h 12 min``."""
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if whole < 60:
        return f"{whole} s"
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
