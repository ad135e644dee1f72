"""How far a run is and what lies before it: counts that moved, and what was foretold of the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from transforms.journal.budget import Bill
from transforms.progress import StepCount

# Steps in the order in which they happen, and what each counts.
STEPS: Mapping[str, str] = {
    "decode": "videos decoded",
    "asr": "videos transcribed",
    "ocr": "videos read (OCR)",
    "caption": "videos captioned",
    "frame_hashes": "videos hashed",
    "write": "prompts answered (queries)",
    "embed_video": "videos embedded",
    "embed_query": "queries embedded",
    "retrieve": "queries searched",
    "judge": "pairs judged",
    "panel": "doubtful pairs judged again",
    "curate": "queries curated",
    "negatives": "prompts answered (negative queries)",
    "verify": "negative queries verified",
    "necessity": "positives judged without a modality",
    "emit": "shards written",
}
# What each step is given its items by: once that is at its end, all of them are there.
_BEFORE: Mapping[str, tuple[str, ...]] = {
    "asr": ("decode",),
    "ocr": ("decode",),
    "caption": ("decode",),
    "frame_hashes": ("decode", "asr", "ocr", "caption"),
    "write": ("decode", "asr", "ocr", "caption"),
    "embed_video": ("decode", "asr", "ocr", "caption"),
    "embed_query": ("write",),
    "retrieve": ("write",),
    "judge": ("retrieve",),
    "panel": ("judge",),
    "curate": ("judge", "panel"),
    "negatives": ("write", "judge"),
    "verify": ("negatives",),
    "necessity": ("judge", "panel"),
}
# Steps that are given an item when they have done the one before: all are known once the step named has begun.
_STREAMED: Mapping[str, str] = {"retrieve": "judge"}
_KNOWN = ("decode", "emit")  # of these all is known beforehand
_TELLING_S = 1.0  # a rate over less than that says nothing


@dataclass(frozen=True, slots=True)
class StepOutlook:
    """One step: items ``ended`` of those ``due``, which are an estimate unless ``exact``.

    Among the ended are those ``cached``, ``failed``, ``rejected`` and left for a later run (``deferred``).
    ``rate_per_s`` is of items that were not cached, 0 where it is not known. ``left_s`` is None where nothing tells how
    long the rest will take.
    """

    step: str
    ended: int
    due: int
    exact: bool
    cached: int = 0
    failed: int = 0
    rejected: int = 0
    deferred: int = 0
    rate_per_s: float = 0.0
    left_s: float | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more is to come."""
        return self.exact and self.ended >= self.due


@dataclass(frozen=True, slots=True)
class Outlook:
    """All steps that have begun or will; ``left_s`` is of the steps of which it is known, and ``unknown`` names others.

    Times are in seconds.
    """

    steps: tuple[StepOutlook, ...] = ()
    elapsed_s: float = 0.0
    left_s: float = 0.0
    unknown: tuple[str, ...] = ()
    bill: Bill = field(default_factory=Bill)

    @property
    def begun(self) -> tuple[StepOutlook, ...]:
        """The steps that were given something."""
        return tuple(step for step in self.steps if step.ended or (step.exact and step.due))


def outlook(
    counts: Mapping[str, StepCount],
    foretold: Mapping[str, float],
    seconds_each: Callable[[str], float | None],
    elapsed_s: float = 0.0,
    bill: Bill | None = None,
) -> Outlook:
    """What counts say, and what was ``foretold`` of items that are not there yet.

    A step takes as long an item as so far, cached ones included; before one that was not cached, ``seconds_each``.
    Steps that are at work are so side by side, and the longest counts; those that are not follow one after the other.
    """
    steps: dict[str, StepOutlook] = {}
    scale = 1.0  # what came of what was foretold, of the last step of which all is known
    for step in STEPS:
        count = counts.get(step, StepCount())
        before = [steps[name] for name in _BEFORE.get(step, ()) if name in steps]
        exact = count.given > 0 and all(each.over for each in before)
        if (after := _STREAMED.get(step)) is not None and count.due <= count.ended + 1:
            exact = exact and counts.get(after, StepCount()).ended > 0
        if step in _KNOWN and step in foretold:
            exact, due = step == "decode" or count.ended > 0, max(count.due, round(foretold[step]))
        else:
            due = count.due if exact else max(count.due, round(foretold.get(step, 0) * scale))
        if exact and foretold.get(step):
            scale = due / foretold[step]
        if due:
            steps[step] = _step(step, count, due, exact, seconds_each)
    working = [step for step in steps.values() if step.ended and not step.over]
    waiting = [step for step in steps.values() if not step.ended and step.due]
    known = max((step.left_s or 0.0 for step in working), default=0.0) + sum(step.left_s or 0.0 for step in waiting)
    unknown = tuple(step.step for step in (*working, *waiting) if step.left_s is None)
    return Outlook(tuple(steps.values()), elapsed_s, known, unknown, bill or Bill())


def _step(
    step: str, count: StepCount, due: int, exact: bool, seconds_each: Callable[[str], float | None]
) -> StepOutlook:
    left, moved_s = due - count.ended, count.last_s - count.first_s
    paced = count.ended > count.cached and moved_s > 0  # what was looked up tells nothing of what is not there
    each = moved_s / count.ended if paced else seconds_each(step)
    return StepOutlook(
        step,
        count.ended,
        due,
        exact,
        count.cached,
        count.failed,
        count.rejected,
        count.deferred,
        count.rate_per_s if moved_s >= _TELLING_S else 0.0,
        0.0 if not left else None if each is None else left * each,
    )
