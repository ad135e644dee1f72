"""Marks: what a person says of a query, or of a video as an answer to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from schemas.check import require, require_one_of, require_text

Verdict = Literal["wrong positive", "false negative", "bad query", "yes", "no", "unsure", ""]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
WRONG: tuple[Verdict, ...] = ("wrong positive", "false negative", "bad query")
ANSWERS: tuple[Verdict, ...] = ("yes", "no", "unsure")


@dataclass(frozen=True, slots=True)
class Mark:
    """One line of a file of marks, where the last line on a pair counts.

    ``verdict`` says what is wrong with a pair or a query (WRONG), or answers whether the video is what the query asks
    for (ANSWERS); "" takes back what was said before. ``video_id`` is empty exactly for what is said of a query as a
    whole. ``said`` is when, UTC in ISO 8601.
    """

    query_id: str
    video_id: str
    verdict: Verdict
    note: str = ""
    said: str = ""

    def __post_init__(self) -> None:
        require_text("query_id", self.query_id)
        require_one_of("verdict", self.verdict, VERDICTS)
        if self.verdict:
            whole = self.verdict == "bad query"
            require(whole != bool(self.video_id), "a bad query names no video, any other verdict one", self.video_id)

    @property
    def about(self) -> tuple[str, str]:
        """The pair, or the query and "", that this is said of."""
        return self.query_id, self.video_id
