"""What did not make it - rejected, failed or deferred - and the counts that account for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from schemas.check import pickled_by_fields, require, require_one_of, require_text

STAGES = ("extract", "synthesize", "mine", "judge", "curate", "emit")
OF_NEGATIVES = frozenset({"negatives", "filter negatives", "verify", "filter rewordings", "verify rewordings"})
"""The steps that lose negative queries; their losses are told under the query that these look like."""

STEPS_OF_JUDGE = ("judge", "verify", "verify rewordings", "necessity")
"""The steps of the stage judge, besides one for each further judge, which bears its name."""

LossKind = Literal["rejected", "failed", "deferred"]
LOSS_KINDS: tuple[LossKind, ...] = get_args(LossKind)
Outcome = Literal["in", "out"] | LossKind


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Loss:
    """A video, call, query or pair that did not come out of a step: a rule dropped it, something broke, or it waits.

    ``step`` is the ledger line within the stage, such as "filter". ``reason`` is one to three words, of what failed the
    class of the error; ``detail`` says what was found, of what failed the error's message. Absent ids are empty;
    ``uri`` is set for videos that failed.
    """

    kind: LossKind
    stage: str
    step: str
    reason: str
    detail: str = ""
    video_id: str = ""
    query_id: str = ""
    uri: str = ""

    def __post_init__(self) -> None:
        require_one_of("kind", self.kind, LOSS_KINDS)
        require_one_of("stage", self.stage, STAGES)
        require_text("reason", self.reason)
        require(len(self.reason.split()) <= 3, "a reason is one to three words", self.reason)


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Tally:
    """One count of the ledger: at this stage and step, so many items had this outcome, for this reason."""

    stage: str
    step: str
    outcome: Outcome
    reason: str
    count: int
