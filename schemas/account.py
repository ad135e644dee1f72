"""What did not make it - rejections, failures, deferrals - the counts that account for it, and what calls used."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
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
    """What a server took for one call: the tokens of its reply, and the requests that it came by. None is not known.

    ``cached_tokens``, which the server had read before, and ``cache_write_tokens``, which it keeps for later, are parts
    of ``input_tokens``; ``reasoning_tokens`` are part of ``output_tokens``. ``retries`` are all ``requests`` but the
    first; tokens of requests without a reply are not known, and are not among these.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    requests: int | None = None
    retries: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.known().items():
            require(value >= 0, f"{name} must be at least 0", value)
        for part, whole in (("cached", "input"), ("cache_write", "input"), ("reasoning", "output")):
            of, all_of = getattr(self, f"{part}_tokens"), getattr(self, f"{whole}_tokens")
            within = of is None or (all_of is not None and of <= all_of)
            require(within, f"{part}_tokens are part of {whole}_tokens, which are {all_of}", of)

    def sent(self, requests: int) -> Usage:
        """The same of a call that took so many requests, each but the first because the one before it failed."""
        return replace(self, requests=requests, retries=requests - 1)

    def known(self) -> dict[str, int]:
        """What is known, by name."""
        return {name: value for name in USAGE if (value := getattr(self, name)) is not None}


USAGE = tuple(field.name for field in fields(Usage))
