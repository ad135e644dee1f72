"""Parsers of replies: what one of another distribution can do; this project's own prompts need none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from prompts.reply import UnparsableReply
from prompts.template import ReplyParser
from transforms.protocols.engine import Engine, loaded

T = TypeVar("T")


class ParserEngine(Engine, Protocol):
    """Options of a parser; its stamp decides, with the reply, what is read."""

    def load(self) -> ReplyParser:
        """The parser itself; called once a process."""


class ParserFailed(RuntimeError):
    """A parser that raised an error, or returned what it must not."""


@dataclass(frozen=True)
class NamedParser:
    """A parser that the recipe names under a ``key``: a ``ReplyParser`` whose faults are told by that."""

    key: str
    engine: ParserEngine

    def rewritten(self, reply: str) -> str:
        """See ``ReplyParser``. Raises ParserFailed with the parser, too."""
        said = self._call(lambda parser: parser.rewritten(reply), reply)
        if not isinstance(said, str):
            raise ParserFailed(f"{self._named}: a reply is rewritten as text, got {said!r}")
        return said

    def answer_at(self, reply: str) -> int | None:
        """See ``ReplyParser``. Raises ParserFailed with the parser, too."""
        place = self._call(lambda parser: parser.answer_at(reply), reply)
        if place is not None and not (isinstance(place, int) and 0 <= place <= len(reply)):
            raise ParserFailed(f"{self._named}: an answer begins in the reply or nowhere (None), got {place!r}")
        return place

    def _call(self, ask: Callable[[ReplyParser], T], reply: str) -> T:
        try:
            return ask(loaded(self.engine))
        except UnparsableReply:
            raise
        except Exception as error:  # whatever a stranger's parser raises
            raise ParserFailed(f"{self._named}, reply {reply[:80]!r}: {type(error).__name__}: {error}") from error

    @property
    def _named(self) -> str:
        return f"{self.key} ({self.engine.stamp().version})"
