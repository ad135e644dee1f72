"""The budget of a run: what its paid calls may cost, and what was spent, which stops work before it is exceeded."""

from __future__ import annotations

import math
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from schemas.check import require
from schemas.configuration.section import Section
from schemas.usage import Usage

# The steps whose calls a server may bill: they count against a budget, the work of this machine does not.
PAID_STEPS = (
    "caption",
    "write",
    "embed_video",
    "embed_query",
    "judge",
    "panel",
    "negatives",
    "verify",
    "necessity",
)


class Deferred(RuntimeError):
    """Work that was not done in this run; ``reason`` is one to three words, such as "max calls"."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Cost(Section, frozen=True):
    """Prices of one step's calls in dollars a million tokens, and the tokens of an average call until it was measured.

    ``cached_price`` is that of input tokens which the server had cached, null where it takes nothing off for them. The
    averages also stand in for an answer whose server does not say what it used.
    """

    input_price: float = 0.0
    output_price: float = 0.0
    cached_price: float | None = None
    input_tokens: float = 0.0
    output_tokens: float = 0.0

    def __post_init__(self) -> None:
        for name in ("input_price", "output_price", "cached_price", "input_tokens", "output_tokens"):
            value = getattr(self, name)
            if value is not None:
                require(math.isfinite(value) and value >= 0, f"{name} must be a number of at least 0", value)

    def dollars(self, input_tokens: float, output_tokens: float, cached_tokens: float = 0.0) -> float:
        """The price of so many tokens; ``cached_tokens`` are part of ``input_tokens``."""
        cached_price = self.input_price if self.cached_price is None else self.cached_price
        read = (input_tokens - cached_tokens) * self.input_price + cached_tokens * cached_price
        return (read + output_tokens * self.output_price) / 1e6


@dataclass(frozen=True)
class Budget:
    """Upper bounds on the paid calls of one run, None where there is none; ``costs`` by step."""

    max_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    costs: Mapping[str, Cost] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for name in ("max_calls", "max_tokens", "max_cost"):
            value = getattr(self, name)
            require(value is None or (math.isfinite(value) and value >= 0), f"{name} must be at least 0", value)


_FREE = Cost()
_UNTOLD, _NOTHING = Usage(), Usage(0, 0)


@dataclass(slots=True)
class Spent:
    """The calls of one step so far, and what those used that said so (or were assumed to)."""

    calls: int = 0
    input_tokens: float = 0.0
    output_tokens: float = 0.0
    cached_tokens: float = 0.0

    def mean(self, cost: Cost) -> tuple[float, float, float]:
        """Input, output and cached tokens to expect of the next call."""
        if not self.calls:
            return cost.input_tokens, cost.output_tokens, 0.0
        used = (self.input_tokens, self.output_tokens, self.cached_tokens)
        return used[0] / self.calls, used[1] / self.calls, used[2] / self.calls


@dataclass(frozen=True, slots=True)
class Bill:
    """What calls have used so far; an answer that did not say counts as the recipe's section ``costs`` has it."""

    calls: int = 0
    tokens: int = 0
    dollars: float = 0.0


class Spending:
    """What this process spends under a budget; safe to use from threads.

    A call is let through while what was spent, plus what the calls under way are expected to use, leaves room for it.
    Once a bound is reached no later call gets through, not even a smaller one: it would be asked about half of what it
    should see. Calls are counted exactly; tokens and dollars can be exceeded by what the calls under way use above
    the average.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._spent: dict[str, Spent] = defaultdict(Spent)
        self._calls = 0  # begun
        self._tokens = self._dollars = 0.0  # used by ended calls
        self._reserved: dict[int, tuple[float, float]] = {}  # tokens, dollars of the calls under way
        self._closed = ""
        self._counting = threading.Lock()

    def bill(self) -> Bill:
        """What ended calls have used."""
        with self._counting:
            calls = sum(spent.calls for spent in self._spent.values())
            return Bill(calls, round(self._tokens), round(self._dollars, 6))

    @contextmanager
    def call(self, step: str) -> Iterator[Call]:
        """Around one call of a step. Raises ``Deferred`` where the budget has no room for it."""
        cost = self._budget.costs.get(step, _FREE)
        with self._counting:
            if step in PAID_STEPS:
                tokens_in, tokens_out, cached = self._spent[step].mean(cost)
                tokens_in, tokens_out = max(1.0, tokens_in), max(1.0, tokens_out)  # a budget of 0 lets none by
                reserve = (tokens_in + tokens_out, cost.dollars(tokens_in, tokens_out, cached))
                self._closed = self._closed or self._reason_against(*reserve)
                if self._closed:
                    raise Deferred(self._closed)
                self._calls += 1
                self._reserved[self._calls] = reserve
            ticket, call = self._calls, Call()
        try:
            yield call
        finally:
            if step in PAID_STEPS:
                self._settle(step, ticket, cost, call.usage)

    def _reason_against(self, tokens: float, dollars: float) -> str:
        budget = self._budget
        tokens += self._tokens + sum(reserved for reserved, _ in self._reserved.values())
        dollars += self._dollars + sum(reserved for _, reserved in self._reserved.values())
        if budget.max_calls is not None and self._calls >= budget.max_calls:
            return "max calls"
        if budget.max_tokens is not None and tokens > budget.max_tokens:
            return "max tokens"
        if budget.max_cost is not None and dollars > budget.max_cost:
            return "max cost"
        return ""

    def _settle(self, step: str, ticket: int, cost: Cost, usage: Usage | None) -> None:
        told = usage or _UNTOLD
        tokens_in = cost.input_tokens if told.input_tokens is None else told.input_tokens
        tokens_out = cost.output_tokens if told.output_tokens is None else told.output_tokens
        cached = told.cached_tokens or 0
        with self._counting:
            del self._reserved[ticket]
            spent = self._spent[step]
            spent.calls += 1
            spent.input_tokens += tokens_in
            spent.output_tokens += tokens_out
            spent.cached_tokens += cached
            self._tokens += tokens_in + tokens_out
            self._dollars += cost.dollars(tokens_in, tokens_out, cached)


@dataclass(slots=True)
class Call:
    """A call under way; whoever makes it puts down what the answer used, None where the server does not say."""

    usage: Usage | None = _NOTHING
