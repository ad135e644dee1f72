"""A parser for hardquery that reads verdicts in JSON: ``{"why": "The sign says so.", "answer": "yes"}``."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import ClassVar

from prompts.reply import UnparsableReply
from schemas.video import EngineStamp
from transforms.protocols.engine import stamp_of


@dataclass(frozen=True)
class JsonVerdict:
    """The options that a recipe may give: the names of the two fields."""

    why: str = "why"
    answer: str = "answer"

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> Reader:
        """Called once a process."""
        return Reader(self.why, self.answer)

    def stamp(self) -> EngineStamp:
        """What decides what it reads: options and this package's version."""
        return stamp_of(self, "json_verdict", "")


class Reader:
    """The parser: a ``ReplyParser`` (prompts/template.py)."""

    def __init__(self, why: str, answer: str) -> None:
        self._why, self._answer = why, answer
        self._opens = re.compile(rf'"{re.escape(answer)}"\s*:\s*"')

    def rewritten(self, reply: str) -> str:
        """The verdict as hardquery's own prompt asks for it."""
        try:
            said = json.loads(reply[reply.index("{") :])
            return f"<think>{said[self._why]}</think><answer>{said[self._answer]}</answer>"
        except (ValueError, KeyError, TypeError) as error:
            raise UnparsableReply("not json", f"{type(error).__name__}: {error}") from error

    def answer_at(self, reply: str) -> int | None:
        """Behind the quotation mark that opens the answer: there the model decides between yes and no."""
        found = self._opens.search(reply)
        return found.end() if found else None
