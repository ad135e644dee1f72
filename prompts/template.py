"""Prompt files: a system part and a user part around a ``---`` line, with ``{{name}}`` slots."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Protocol

_SLOT = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: what is sent, word for word; ``version`` is that of its template."""

    system: str
    user: str
    version: str = ""

    @cached_property
    def sha256(self) -> str:
        """Hash of both parts."""
        return hashlib.sha256(f"{self.system}\0{self.user}".encode()).hexdigest()


class ReplyParser(Protocol):
    """Reads the replies to a prompt that asks for another form than this project's does."""

    def rewritten(self, reply: str) -> str:
        """What a reply says, in the form that this project's own prompt asks for; what reads that reads this, too.

        Raises:
            prompts.reply.UnparsableReply: it says nothing of the kind.
        """

    def answer_at(self, reply: str) -> int | None:
        """Where the word yes or no of a verdict begins in a reply: the log-probabilities of that token are its margin.

        None where there is no such place; margins are then had without them, or not at all.
        """


@dataclass(frozen=True)
class Template:
    """A prompt file; ``version`` is the hash of its text, so any edit is a new version.

    ``parser`` reads the replies to it, where they are of another form than those to this project's own prompt.
    """

    name: str
    source: str
    parser: ReplyParser | None = None

    @cached_property
    def version(self) -> str:
        """The first 16 hex digits of the SHA-256 of the file."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:16]

    @cached_property
    def slots(self) -> frozenset[str]:
        """The names between double braces."""
        return frozenset(_SLOT.findall(self.source))

    def ours(self, reply: str) -> str:
        """A reply to this prompt in the form of this project's own; see ``ReplyParser.rewritten``."""
        return reply if self.parser is None else self.parser.rewritten(reply)

    def render(self, **values: str) -> Prompt:
        """Fill every slot exactly once over, never re-reading what was filled in.

        Raises:
            KeyError: a slot of the file has no value, or a value has no slot.
        """
        if self.slots != values.keys():
            raise KeyError(f"prompt {self.name!r} has slots {sorted(self.slots)}, was given {sorted(values)}")
        # Between two slots stands text, and between two texts the name of a slot.
        system, user = (
            "".join(values[part] if at % 2 else part for at, part in enumerate(parts)).strip() for parts in self._parts
        )
        return Prompt(system, user, self.version)

    @cached_property
    def _parts(self) -> tuple[list[str], list[str]]:
        system, _, user = self.source.partition("\n---\n")
        return _SLOT.split(system), _SLOT.split(user)


@cache
def load_template(name: str) -> Template:
    """The prompt file ``<name>.txt`` of this folder."""
    return Template(name, resources.files("prompts").joinpath(f"{name}.txt").read_text("utf-8"))
