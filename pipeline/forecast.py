"""How much work waits behind work that is not done: estimates for the steps whose questions are not known yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.config import Recipe
from schemas.query import Variant

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Flow:
    """What a look at the cached part of a job saw.

    ``counts`` are items by line of the ledger and outcome; ``calls`` are those of a step that could be looked up,
    cached or not; ``answered`` those that were cached. ``human`` are queries by people.
    """

    recipe: Recipe
    counts: Counts
    calls: Mapping[str, int]
    answered: Mapping[str, int]
    human: int

    def write_calls(self, videos: float) -> float:
        """Calls that so many more videos will take: as many each as those at hand, else one a variant."""
        at_hand = self._count("synthesize/select", "out")
        each = self.calls["write"] / at_hand if at_hand else float(len(_variants(self.recipe)))
        return videos * each

    def judge_calls(self, videos: float, write_calls: float) -> float:
        """All calls, cached ones included, once so many more videos are there and so many more calls have written."""
        recipe, answered = self.recipe, self.answered["write"]
        kept = self._count("synthesize/filter", "out")
        queries_a_call = kept / answered if answered else float(recipe.synthesize.queries_per_variant)
        queries = kept + write_calls * queries_a_call + self.human
        ranked = self._count("mine/filter", "out")
        survive = self._passed("synthesize/deduplicate") * self._passed("mine/filter")
        at_hand = self._count("synthesize/select", "out")
        most = self._candidates(at_hand + videos) + 1.0
        if not ranked:
            return queries * survive * most
        return queries * survive * (self.calls["judge"] / ranked) * (most / (self._candidates(at_hand) + 1.0))

    def _candidates(self, videos: float) -> float:
        """The most negatives that a query can have: a judge sees those of the query's own split."""
        held_out = self.recipe.emit.validation_fraction
        same_split = max(0.0, videos - 1.0) * (held_out**2 + (1.0 - held_out) ** 2)
        return min(float(self.recipe.mine.candidates), same_split)

    def _count(self, line: str, outcome: str) -> int:
        return self.counts.get(line, {}).get(outcome, 0)

    def _passed(self, line: str) -> float:
        """The share of items that came through a step; all of none."""
        entered = self._count(line, "in")
        return self._count(line, "out") / entered if entered else 1.0


def _variants(recipe: Recipe) -> list[Variant]:
    """Those that some evidence can be there for."""
    absent = {name for name in ("asr", "ocr", "caption") if getattr(recipe.extract, name) is None}
    return [variant for variant in recipe.synthesize.variants if variant not in absent]
