"""A token of a reply, with its log-probability and its alternatives."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.check import pickled_by_fields


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class Token:
    """A token of a reply with its log-probability and the most likely alternatives, all as (bytes, log-probability).

    ``complete`` says of a decision between yes and no that every token which spells a word is among the alternatives.
    """

    text: bytes
    logprob: float
    alternatives: tuple[tuple[bytes, float], ...] = ()
    complete: bool = False
