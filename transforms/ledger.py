"""The ledger: for every step of every stage, in = out + rejected (by reason) + failed (by class) + deferred."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import apache_beam as beam
import msgspec
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from schemas.losses import STAGES, Loss, Outcome, Tally

Key = tuple[str, str, Outcome, str]  # stage, step, outcome, reason
# A key of all items or a function of an item, and how many an item stands for, one if that is not told.
Counted = tuple[Key | Callable[[Any], Key], Callable[[Any], int] | None]
LOSSES = "losses"  # the tag of a step's losses


def lost(loss: Loss) -> beam.pvalue.TaggedOutput:
    """A loss on its way out of a step, beside what the step makes."""
    return beam.pvalue.TaggedOutput(LOSSES, loss)


def key_of(loss: Loss) -> Key:
    """What a loss is counted under."""
    return loss.stage, loss.step, loss.kind, loss.reason


class Count(beam.DoFn):
    """Any item -> (Key, how many): counts of a bundle, so that the items themselves go nowhere to be counted.

    Each item counts in every way that is ``counted``.
    """

    def __init__(self, *counted: Counted) -> None:
        self._counted = counted
        self._counts: dict[Key, int] = {}

    def start_bundle(self) -> None:
        self._counts = {}

    def process(self, item: Any) -> None:
        for given, amount in self._counted:
            key = given(item) if callable(given) else given
            self._counts[key] = self._counts.get(key, 0) + (amount(item) if amount else 1)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from (GlobalWindows.windowed_value_at_end_of_window(count) for count in self._counts.items())


@dataclass
class AddUp(beam.PTransform):
    """(Key, how many) of all steps -> Tally, one a key."""

    def expand(self, counts: beam.PCollection[tuple[Key, int]]) -> beam.PCollection[Tally]:
        tally = beam.MapTuple(lambda key, count: Tally(*cast(Key, key), count))
        return counts | "Sum" >> beam.CombinePerKey(sum) | "Tally" >> tally


@dataclass(slots=True)
class Line:
    """One line of the ledger, in items of one unit (videos, calls, queries, pairs or rows)."""

    stage: str
    step: str
    entered: int = 0
    left: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    deferred: dict[str, int] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Items that went in and are not accounted for; zero where the books balance."""
        others = sum(sum(group.values()) for group in (self.rejected, self.failed, self.deferred))
        return self.entered - self.left - others

    @property
    def lost_all(self) -> bool:
        """Whether nothing came out, and not by a rule or a budget alone: of what was tried, something failed."""
        return self.left == 0 and bool(self.failed)


class LedgerOutOfBalance(RuntimeError):
    """Some step lost or invented items; the message names the step and the difference."""


def lines_of(tallies: Iterable[Tally], steps: Iterable[tuple[str, str]]) -> list[Line]:
    """Ledger lines in the order of ``steps``; a step without tallies has a line of zeros."""
    lines = {key: Line(*key) for key in steps}
    for tally in tallies:
        line = lines[tally.stage, tally.step]
        if tally.outcome == "in":
            line.entered += tally.count
        elif tally.outcome == "out":
            line.left += tally.count
        else:
            groups: Mapping[str, dict[str, int]] = {
                "rejected": line.rejected,
                "failed": line.failed,
                "deferred": line.deferred,
            }
            group = groups[tally.outcome]
            group[tally.reason] = group.get(tally.reason, 0) + tally.count
    for line in lines.values():
        line.rejected, line.failed, line.deferred = (
            dict(sorted(group.items())) for group in (line.rejected, line.failed, line.deferred)
        )
    return list(lines.values())


# What leaves the first step of each pair must enter the second, or items were lost between them.
CHAIN: tuple[tuple[str, str], ...] = (
    ("extract/decode", "extract/deduplicate"),
    ("extract/deduplicate", "extract/evidence"),
    ("extract/evidence", "synthesize/select"),
    ("extract/evidence", "emit/videos"),
    ("synthesize/deduplicate", "mine/select"),
    ("mine/select", "mine/retrieve"),
    ("mine/retrieve", "mine/filter"),
    ("mine/filter", "curate/queries"),
    ("mine/guard", "judge/judge"),
    ("judge/judge", "curate/pairs"),
    ("curate/queries", "emit/ranking"),
)

# The same of negative queries, in runs that write any.
CHAIN_OF_NEGATIVES: tuple[tuple[str, str], ...] = (
    ("curate/queries", "synthesize/negatives"),
    ("synthesize/filter negatives", "judge/verify"),
    ("judge/verify", "curate/negatives"),
)


def chain_of(lines: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """The pairs of steps of a run that has these lines."""
    return (*CHAIN, *(CHAIN_OF_NEGATIVES if "synthesize/negatives" in lines else ()))


def check_balance(lines: Iterable[Line], entries: int) -> None:
    """Raise LedgerOutOfBalance unless every line balances and nothing is lost between steps.

    ``entries`` is the number of videos that the input listed: what must have entered the first step.
    """
    by_name = {f"{line.stage}/{line.step}": line for line in lines}
    wrong = [f"{name}: {line.missing:+d}" for name, line in by_name.items() if line.missing]
    for first, second in chain_of(by_name):
        lost = by_name[first].left - by_name[second].entered
        if lost:
            wrong.append(f"{first} to {second}: {lost:+d}")
    lost = entries - by_name["extract/decode"].entered
    if lost:
        wrong.append(f"input to extract/decode: {lost:+d}")
    if wrong:
        raise LedgerOutOfBalance(f"the books do not balance (items in minus items accounted for): {', '.join(wrong)}")


def ledger_json(lines: Iterable[Line], warnings: Mapping[str, Mapping[str, int]]) -> bytes:
    """The ledger as the file ``ledger.json``; ``warnings`` counts partial evidence by part and reason."""
    steps = [
        {
            "stage": line.stage,
            "step": line.step,
            "in": line.entered,
            "out": line.left,
            "rejected": line.rejected,
            "failed": line.failed,
            "deferred": line.deferred,
        }
        for line in lines
    ]
    document = {"steps": steps, "partial_evidence": {part: dict(warnings[part]) for part in sorted(warnings)}}
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def read_ledger(data: bytes) -> list[Line]:
    """The lines of a ``ledger.json``."""
    return [
        Line(step["stage"], step["step"], step["in"], step["out"], step["rejected"], step["failed"], step["deferred"])
        for step in msgspec.json.decode(data)["steps"]
    ]


def read_partial_evidence(data: bytes) -> dict[str, dict[str, int]]:
    """How many videos lack some evidence, by part and reason, from a ``ledger.json``."""
    partial: dict[str, dict[str, int]] = msgspec.json.decode(data)["partial_evidence"]
    return partial


def by_stage(lines: Iterable[Line]) -> dict[str, list[Line]]:
    """Lines grouped by stage, in the order of the stages."""
    grouped: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        grouped[line.stage].append(line)
    return {stage: grouped[stage] for stage in STAGES if stage in grouped}
