"""Which of several servers of one model a call goes to, and when it may be sent."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate, pairwise

import msgspec

from schemas.check import require
from transforms.engines.server.pacing import Pace


class Endpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of several servers of a model; it gets ``weight`` parts of the calls that are under way."""

    url: str
    weight: float = 1.0

    def __post_init__(self) -> None:
        require(math.isfinite(self.weight) and self.weight > 0, "weight must be above 0", self.weight)


UNREACHABLE = 8
"""So many calls in a row without any reply mean that a server is gone, for now."""

ASIDE_S = 30.0
"""A server that is gone while others are there is left alone for so long, and then tried with one call."""


class Server:
    """One server: how many calls are under way to it, its pace, and whether it still replies."""

    def __init__(self, endpoint: Endpoint, places: int, clock: Callable[[], float]) -> None:
        self.url, self.weight, self.places = endpoint.url, endpoint.weight, places
        self.under_way = 0
        self.pace = Pace()
        self.turn = asyncio.Lock()
        self._clock = clock
        self._silent = 0  # calls in a row
        self._aside_until_s = clock()

    @property
    def gone(self) -> bool:
        """Whether it was silent so often that it is set aside."""
        return self._silent >= UNREACHABLE

    @property
    def is_due(self) -> bool:
        """Whether it is gone, and to be tried again."""
        return self.gone and not self.under_way and self._clock() >= self._aside_until_s

    def note(self, reached: bool, refused: bool) -> bool:
        """Take down how a call to it ended (see ``Fault``); whether that made it one that is gone."""
        self.pace.note(refused)
        self._silent = 0 if reached else self._silent + 1
        if self.gone:
            self._aside_until_s = self._clock() + ASIDE_S
        return self._silent == UNREACHABLE


class Servers:
    """The servers of one model, for the calls of one event loop; ``in_flight`` bounds them all together.

    Each has the share of the places that its weight is of all, and at least one. A call takes a place where the fewest
    are under way for the weight; one that is tried again, somewhere else where it can.
    """

    def __init__(
        self, endpoints: Sequence[Endpoint], in_flight: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        sums = list(accumulate(endpoint.weight for endpoint in endpoints))
        ends = [round(in_flight * total / sums[-1]) for total in sums]  # so that shares add up to what there is
        shares = [max(1, end - start) for start, end in pairwise((0, *ends))]
        self.all = tuple(Server(endpoint, share, clock) for endpoint, share in zip(endpoints, shares, strict=True))
        self._changed = asyncio.Condition()

    @property
    def gone(self) -> bool:
        """Whether none of them replies any more."""
        return all(server.gone for server in self.all)

    @asynccontextmanager
    async def place(self, apart_from: Server | None = None) -> AsyncIterator[Server]:
        """A place for one call, once there is one and it is the call's turn; ``apart_from`` just failed."""
        async with self._changed:
            while (server := self.choose(apart_from)) is None:
                await self._changed.wait()
            server.under_way += 1
        try:
            async with server.turn:
                while wait_s := server.pace.wait_s():
                    await asyncio.sleep(wait_s)
            yield server
        finally:
            server.under_way -= 1
            async with self._changed:
                self._changed.notify()

    def choose(self, apart_from: Server | None = None) -> Server | None:
        """The server that the next call goes to; None where it has to wait for a place."""
        there = [server for server in self.all if not server.gone]
        tried = [server for server in self.all if server.is_due] if there else self.all
        free = [server for server in (*there, *tried) if server.under_way < server.places]
        return min(free, key=lambda server: (server is apart_from, server.under_way / server.weight), default=None)
