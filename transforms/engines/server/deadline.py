"""How long a call may take before it is made anew, by how long others of its kind took."""

from __future__ import annotations

from collections import deque

LEAST_S = 10.0
ENOUGH = 20
"""So many replies tell what is usual."""

_TIMES = 5.0  # a reply that takes so much longer than 19 in 20 is not waited for
_KEPT = 200  # replies: what is usual changes with the load


class Deadline:
    """Five times the 95th percentile of recent calls, between ``LEAST_S`` and ``most_s``, which is for the first ones.

    A call that the server forgot keeps its place until then. It is meant for the first attempt at a request only: one
    that takes long by its nature has to get ``most_s`` in the end.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._took_s: deque[float] = deque(maxlen=_KEPT)

    def note(self, took_s: float) -> None:
        """Take down how long a call took that was answered."""
        self._took_s.append(took_s)

    @property
    def limit_s(self) -> float:
        """Seconds that a call may take now."""
        if len(self._took_s) < ENOUGH:
            return self._most_s
        usual_s = sorted(self._took_s)[int(0.95 * (len(self._took_s) - 1))]
        return min(self._most_s, max(LEAST_S, _TIMES * usual_s))
