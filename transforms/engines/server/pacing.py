"""How fast to send: as fast as a server takes requests, found from the share of them that it turns away."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

START_PER_S = 50.0
# An epoch is over after so many replies, but no sooner than after so long; (far below the limit, near it).
EPOCH_REPLIES = (20, 40)
EPOCH_S = (0.25, 1.0)
# A few refusals cost less than unused capacity: the rate settles where about 2 % of the requests are turned away.
_TOO_MANY = 0.05
_FEW = 0.015
_CHANCE = 3  # so many refusals in an epoch may be bad luck
_LEAST_PER_S = 0.1  # a server that refuses everything for a while is asked now and then whether that is over
_MOST_AT_ONCE_S = 0.05  # what was not sent while nobody was ready is made up for by at most so much


class Pace:
    """A rate of requests, raised or lowered at the end of each epoch; not for several threads.

    A single refusal changes nothing: a server that refuses one request in a hundred for reasons of its own is not
    slowed down for, and one that queues what it is sent is never held back. The rate grows slowly near the one at which
    more than a few requests began to be refused, and fast far below it: at the start, and after a server that refused
    everything for a while, as those do that count the requests or tokens of a minute.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate_per_s = START_PER_S
        self._clock = clock
        self._tokens, self._filled_s = 1.0, clock()
        self._begin_epoch()
        self._refused_at_per_s = math.inf  # the rate before it was last lowered, in one epoch or several in a row
        self._lowering = False

    def wait_s(self) -> float:
        """0 where a request may be sent now, which it then has to be; else seconds after which to ask again."""
        now = self._clock()
        most = max(1.0, self.rate_per_s * _MOST_AT_ONCE_S)
        self._tokens = min(most, self._tokens + (now - self._filled_s) * self.rate_per_s)
        self._filled_s = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self.rate_per_s
        self._tokens -= 1.0
        return 0.0

    def note(self, refused: bool) -> None:
        """Take down how the server answered one request: ``refused`` for too many requests (429), or in another way."""
        far_below = self._is_far_below
        if far_below and not refused and self._refused == self._replies > 0:  # what was refused before is over
            self._begin_epoch()
        self._replies += 1
        self._refused += refused
        elapsed_s = self._clock() - self._epoch_s
        enough = self._replies >= EPOCH_REPLIES[not far_below]
        promising = far_below and not self._refused and elapsed_s >= EPOCH_S[True]
        if (enough or promising) and elapsed_s >= EPOCH_S[not far_below]:
            self._adjust(self._refused / self._replies, self._replies / elapsed_s)
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._epoch_s = self._clock()
        self._replies = self._refused = 0

    @property
    def _is_far_below(self) -> bool:
        return self.rate_per_s < 0.5 * self._refused_at_per_s

    def _adjust(self, share: float, replies_per_s: float) -> None:
        taken_per_s = (1.0 - share) * replies_per_s
        if share > _TOO_MANY and self._refused > _CHANCE:
            # What was taken, even where less was sent than the rate allows. It may be too little, because refusals
            # come back sooner than answers.
            if not self._lowering:
                self._refused_at_per_s = self.rate_per_s
            lowered = max(min(self.rate_per_s * (1.0 - share), taken_per_s), 0.25 * self.rate_per_s)
            self.rate_per_s, self._lowering = max(lowered, _LEAST_PER_S), True
            return
        self._lowering = False
        growth = 1.6 if self._is_far_below else 1.05 if share < _FEW else 1.01
        # A rate far above what is sent would take many epochs to come down from.
        self.rate_per_s = min(self.rate_per_s * growth, max(2.0 * taken_per_s, START_PER_S))
