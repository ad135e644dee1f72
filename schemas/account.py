"""What did not make it - rejections, failures, deferrals - the counts that account for it, and what calls used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.check import require, require_one_of, require_text

STAGES = ("extract", "synthesize", "mine", "judge", "curate", "emit")
Outcome = Literal["in", "out", "rejected", "failed", "deferred"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A video, query or pair that a rule dropped; ``reason`` is one or two words, ``detail`` says what was found.

    ``step`` is the ledger line within the stage, such as "filter". Absent ids are empty.
    """

    stage: str
    step: str
    reason: str
    detail: str = ""
    video_id: str = ""
    query_id: str = ""

    def __post_init__(self) -> None:
        require_one_of("stage", self.stage, STAGES)
        require_text("reason", self.reason)
        require(len(self.reason.split()) <= 3, "a reason is one to three words", self.reason)


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that broke: where, on what, with which error. ``uri`` is set for videos."""

    stage: str
    step: str
    error_class: str
    message: str
    uri: str = ""
    video_id: str = ""
    query_id: str = ""

    def __post_init__(self) -> None:
        require_one_of("stage", self.stage, STAGES)
        require_text("error_class", self.error_class)


@dataclass(frozen=True, slots=True)
class Tally:
    """One count of the ledger: at this stage and step, so many items had this outcome, for this reason."""

    stage: str
    step: str
    outcome: Outcome
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Deferral:
    """A video, call, pair or query that was left for a later run; ``reason`` is one to three words."""

    stage: str
    step: str
    reason: str
    video_id: str = ""
    query_id: str = ""

    def __post_init__(self) -> None:
        require_one_of("stage", self.stage, STAGES)
        require_text("reason", self.reason)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a server bills for one call."""

    input_tokens: int
    output_tokens: int
