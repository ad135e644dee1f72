"""What a look found, in numbers: those of a sample are multiplied until they stand for all that it was drawn from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pipeline.planning.changes import NotHeld
from pipeline.planning.forecast import Counts, calls_behind, calls_behind_panel, variants_of
from pipeline.planning.unseen import Unseen
from pipeline.run import Job
from transforms.journal.record import STEPS
from transforms.protocols.teacher import Ladder

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Seen:
    """Numbers of a look, by step of the journal or line of the ledger.

    ``counts`` are items by line and outcome, and by step what was done of it; ``reasons`` are the distinct results
    that are not held, by why; ``missed`` counts them as often as they were asked for; ``follow`` are calls that come
    after them. ``files`` are those that were never decoded: how many ``has_video``, ``has_audio``, are ``unreadable``
    or of ``unknown_length``, their ``seconds`` and the most ``prompts`` that they can have evidence for. ``off`` is by
    how much the distinct results of a step may be more or fewer, as only a sample was looked at.
    """

    counts: Counts
    reasons: Mapping[str, Numbers]
    missed: Numbers
    follow: Numbers
    files: Numbers
    off: Numbers = field(default_factory=dict)

    def count(self, line: str, outcome: str) -> float:
        """Items of a line of the ledger that came to this."""
        return self.counts.get(line, {}).get(outcome, 0)

    def held(self, step: str) -> float:
        """Results that are cached."""
        return self.count(step, "cached")

    def due(self, step: str) -> float:
        """Distinct results that are not."""
        return sum(self.reasons.get(step, {}).values())

    def calls(self, step: str) -> float:
        """All results that could be looked up, and what follows those that are missing."""
        return self.held(step) + self.missed.get(step, 0) + self.follow.get(step, 0)

    def times(self, factor: float) -> Seen:
        """As much of everything, as often; not of what these numbers may be off."""
        if factor == 1:
            return self
        return Seen(
            counts={line: _times(counts, factor) for line, counts in self.counts.items()},
            reasons={step: _times(counts, factor) for step, counts in self.reasons.items()},
            missed=_times(self.missed, factor),
            follow=_times(self.follow, factor),
            files=_times(self.files, factor),
            off=self.off,
        )

    def plus(self, other: Seen) -> Seen:
        """Both together."""
        return Seen(
            counts=_all_of(self.counts, other.counts),
            reasons=_all_of(self.reasons, other.reasons),
            missed=_sum(self.missed, other.missed),
            follow=_sum(self.follow, other.follow),
            files=_sum(self.files, other.files),
            off=_sum(self.off, other.off),
        )


def seen_of(job: Job, counts: Counts, noted: Iterable[NotHeld], unseen: Unseen) -> Seen:
    """The numbers of one look at a job or a part of it."""
    misses: dict[str, list[NotHeld]] = {step: [] for step in STEPS}
    for miss in noted:
        misses[miss.step].append(miss)
    misses["embed_video"] = list(dict.fromkeys(misses["embed_video"]))  # two may ask for the same vectors
    # Equal files are decoded once, and equal questions asked once: the others find the result.
    distinct = {step: {miss.digest: miss for miss in found}.values() for step, found in misses.items()}
    ladder, verifier = job.engines.judge.ladder, job.engines.verifier.ladder if job.engines.verifier else Ladder(())
    panel = {name: engine.ladder for name, engine in job.engines.panel.items()}
    # Of files that were not hashed nobody knows whether they are copies, or decoded under another name.
    uris = [miss.subject for step in ("media", "decode") for miss in distinct[step]]
    lengths = [headers and headers.duration_s for headers in unseen.headers.values()]
    bad = len(unseen.unreadable)
    return Seen(
        counts=counts,
        reasons={step: Counter(miss.why for miss in found) for step, found in distinct.items()},
        missed={step: len(found) for step, found in misses.items()},
        follow={
            "judge": calls_behind(ladder, distinct["judge"], job.recipe.judge.no_rationale_below),
            "verify": calls_behind(verifier, distinct["verify"], None),
            "necessity": calls_behind(ladder, distinct["necessity"], None),
            "panel": calls_behind_panel(panel, distinct["panel"]),
        },
        files={
            "has_video": unseen.having(uris, "has_video"),
            "has_audio": unseen.having(uris, "has_audio"),
            "prompts": unseen.evidence(uris, variants_of(job.recipe), job.listing.entries),
            "unreadable": bad,
            "unknown_length": len(unseen.remote) + sum(length is None for length in lengths) - bad,
            "seconds": sum(length or 0.0 for length in lengths),
        },
    )


NOTHING = Seen(
    counts={},
    reasons={step: {} for step in STEPS},
    missed=dict.fromkeys(STEPS, 0),
    follow=dict.fromkeys(("judge", "verify", "necessity", "panel"), 0),
    files=dict.fromkeys(("has_video", "has_audio", "prompts", "unreadable", "unknown_length", "seconds"), 0),
)


def _times(numbers: Numbers, factor: float) -> Numbers:
    return {name: factor * number for name, number in numbers.items()}


def _sum(left: Numbers, right: Numbers) -> Numbers:
    return {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}


def _all_of(left: Mapping[str, Numbers], right: Mapping[str, Numbers]) -> Mapping[str, Numbers]:
    return {name: _sum(left.get(name, {}), right.get(name, {})) for name in {**left, **right}}
