"""What every question to a teacher shares: its seed, and the answer in its reply."""

from __future__ import annotations

from prompts.reply import UnparsableReply, excerpt
from schemas.fingerprint import fingerprint
from transforms.protocols.teacher import TeacherReply


def seed_of(seed: int, *parts: str) -> int:
    """A seed in [0, 2^31) for one request, from the recipe's seed and what the request is about."""
    return int(fingerprint([seed, *parts], length=8), 16) % 2**31


def answer_of(reply: TeacherReply) -> str:
    """The text of a reply that is a whole answer. Raises ``UnparsableReply``: "refused" or "truncated"."""
    if reply.refused:
        raise UnparsableReply("refused", excerpt(reply.text))
    if reply.truncated:
        raise UnparsableReply("truncated", "the reply was stopped at the token limit")
    return reply.text
