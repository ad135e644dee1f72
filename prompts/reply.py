"""What the parsers of all prompts share: the error for a reply that cannot be used, and where the answer starts."""

from __future__ import annotations

import re

from schemas.visible import one_line

_THINK_OPENS = re.compile(r"<think>", re.IGNORECASE)
_THINK_CLOSES = re.compile(r"</think>", re.IGNORECASE)


class UnparsableReply(ValueError):
    """A reply that holds no answer; ``reason`` is one to three words to count by, ``detail`` shows what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = one_line(detail)  # it quotes the reply, and is kept

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


def split_thinking(reply: str) -> tuple[str, str]:
    """What a reply says up to its last ``</think>`` (tags removed), and what follows it: the answer.

    Without ``</think>`` there is no thinking part. Where the chat template opens the tag, only the closing one returns.

    Raises:
        UnparsableReply: the reply is blank, or was cut off inside its thinking.
    """
    if not reply.strip():
        raise UnparsableReply("empty reply")
    thinking, answer = "", reply
    for close in _THINK_CLOSES.finditer(reply):
        thinking, answer = reply[: close.start()], reply[close.end() :]
    if _THINK_OPENS.search(answer):
        raise UnparsableReply("truncated", excerpt(reply, end=True))
    return thinking, answer


def last_thought(thinking: str) -> str:
    """The last ``<think>`` block of a thinking part, as one line: a reasoning model's own thoughts may precede it."""
    return one_line(_THINK_CLOSES.sub(" ", _THINK_OPENS.split(thinking)[-1]))


def without_tags(thinking: str) -> str:
    """A thinking part without ``<think>`` and ``</think>``, all of its blocks in one."""
    return _THINK_CLOSES.sub("\n", _THINK_OPENS.sub("", thinking)).strip()


def excerpt(text: str, end: bool = False, length: int = 120) -> str:
    """The first (or last) characters of a reply as one line, for the detail of a rejection."""
    line = one_line(text)
    if len(line) <= length:
        return line
    return f"…{line[-length:]}" if end else f"{line[:length]}…"
