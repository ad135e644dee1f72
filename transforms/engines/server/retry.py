"""When to ask a server again: after growing pauses, and no sooner than it asks for."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping

MAX_WAIT_S = 120.0


def pause_s(attempt: int, asked_s: float) -> float:
    """Seconds to wait after the failed attempt number ``attempt`` (from 0): 0.5, 1, 2, … or what the server asks for.

    A random part of up to a quarter on top keeps workers that failed together from coming back together.
    """
    return min(MAX_WAIT_S, max(asked_s, 0.5 * 2.0**attempt)) * (1.0 + random.random() / 4.0)


def retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds that ``retry-after-ms`` or ``Retry-After`` (seconds or a date) asks for; 0 where none does."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers.get(name, "")) * unit_s)
        except ValueError:
            continue
    try:
        date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, date.timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
