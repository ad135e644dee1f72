"""The teacher's margin between yes and no, read from the log-probabilities of a reply's tokens by byte offsets."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from schemas.query import Label, Margin
from schemas.token import Token

SENTINEL = -9000.0
"""Log-probabilities at or below this say "not reported" (OpenAI) or "masked by the grammar" (vLLM), both -9999."""

SPELLINGS = 16
"""The most spellings of one word (yes, Yes, " yes", y, …) that hide among the tokens a server does not report.

GPT-2's vocabulary has 15 tokens that spell, or start to spell, yes, and 10 for no.
"""

LIMIT = 20.0
"""Margins are clamped to this many nats: p = 2e-9, beyond what a server's floats carry."""

_ROUNDING = 0.05  # how far a server's rounding may lift a log-probability above zero, or their sum above one
_WHOLE = 0.999  # this much of the probability is all of it
_UNSEEN = 2.0**-23  # what is left of one is not known better: servers compute in 32 bits
_TINY = 1e-300
_NEAR = 2
_ANSWER = re.compile(rb"<answer>", re.IGNORECASE)
_THINKING = re.compile(rb".*</think>", re.IGNORECASE | re.DOTALL)
_MARKS = b" \t\r\n*_\"'`:([{"
_WORD = re.compile(r"[^\W\d_]+")

Spelling = Literal["yes", "no", "none yet", "other"]


def decision_margin(
    tokens: Sequence[Token],
    *,
    label: Label | None = None,
    continues: bool = False,
    at: int | None = None,
    only_complete: bool = False,
) -> Margin | None:
    """The margin at the token that starts the answer, as an interval over all spellings of yes and no at that position.

    The decision is found by its place in the reply's bytes, never by token ids: the same text is cut into tokens in
    many ways. Probabilities of all reported tokens that spell, or start to spell, a word are added up. What was not
    reported bounds the margin on both sides: a hidden token is no likelier than the least likely reported one, and at
    most ``SPELLINGS`` of them belong to a word, or none where the token is ``complete``. Where one word was not
    reported at all, the margin is the finite end of its interval and ``censored`` names that word. ``label_mass`` is
    the reported probability of both words.

    Args:
        tokens: of a whole reply, in order.
        label: the word that was read from the reply's text, where it was: tokens that spell another are not its own.
        continues: the reply goes on from a text that ended with the answer tag, and starts with the answer. Its first
            token may have been drawn at any temperature: the likeliest says whether it does.
        at: where the answer starts in the bytes of all tokens, instead of after an answer tag.
        only_complete: give none unless the token at the decision tells every spelling.

    Returns:
        None where there is no answer tag after the thinking, the answer is neither yes nor no, its first letters are
        merged into the tag's token (``>No``: the alternatives of such a token say nothing of the decision), neither
        word has a reported probability, or what is reported are no log-probabilities.
    """
    place = _find_decision(_likeliest_first(tokens) if continues else tokens, label, continues, at)
    reported = _reported(tokens[place]) if place is not None else None
    if reported is None or (only_complete and place is not None and not tokens[place].complete):
        return None
    mass: dict[Spelling, float] = {"yes": 0.0, "no": 0.0, "none yet": 0.0, "other": 0.0}
    for text, probability in reported.candidates:
        mass[spelling_of(text)] += probability
    yes, no, unknown = mass["yes"], mass["no"], reported.hidden + mass["none yet"]
    lo = _clamp(_log(yes) - _log(no + unknown))
    hi = _clamp(_log(yes + unknown) - _log(no))
    label_mass = min(1.0, yes + no)
    if yes > 0.0 and no > 0.0:
        return Margin(_clamp(_log(yes) - _log(no)), lo, hi, label_mass=label_mass)
    if yes > 0.0:
        return Margin(lo, lo, hi, censored="no", label_mass=label_mass)
    if no > 0.0:
        return Margin(hi, lo, hi, censored="yes", label_mass=label_mass)
    return None


def decision_place(tokens: Sequence[Token]) -> int | None:
    """The index of the token at the decision after a reply's answer tag; None where ``decision_margin`` has none."""
    return _find_decision(tokens)


def logit(p: float) -> float:
    """The margin of a probability of yes, clamped."""
    if p <= 0.0 or p >= 1.0:
        return -LIMIT if p <= 0.0 else LIMIT
    return _clamp(math.log(p) - math.log1p(-p))


def essential(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """The tokens, without the alternatives of those that are not next to the decision: nearly all of a reply's bytes.

    All of them stay where no decision is found, in case a later version finds one.
    """
    place = _find_decision(tokens)
    if place is None:
        return tuple(tokens)
    near = range(place - _NEAR, place + _NEAR + 1)
    return tuple(token if at in near else replace(token, alternatives=()) for at, token in enumerate(tokens))


@lru_cache(4096)
def spelling_of(text: bytes) -> Spelling:
    """Which word a first token of the answer spells or starts to spell; "none yet" is white space and markup only.

    >>> [spelling_of(text) for text in (b" Yes", b"ye", b"no.", b"not", b"**")]
    ['yes', 'yes', 'no', 'other', 'none yet']
    """
    start = text.lstrip(_MARKS).lower()
    if not start:
        return "none yet"
    word = _WORD.match(start.decode("utf-8", "replace"))
    spelled = word[0] if word else ""
    if spelled == "yes" or start in (b"y", b"ye"):
        return "yes"
    if spelled == "no" or start == b"n":
        return "no"
    return "other"


def tells_all(token: Token, asked: int) -> bool:
    """Whether all that was asked for stands among a token's alternatives, and nothing was masked, as grammars do."""
    return len(token.alternatives) >= asked and all(logprob > SENTINEL for _, logprob in token.alternatives)


def _find_decision(
    tokens: Sequence[Token], label: Label | None = None, continues: bool = False, at: int | None = None
) -> int | None:
    """The index of the token that holds the first letter of the answer, None where there is no such token."""
    reply = b"".join(token.text for token in tokens)
    start = 0 if continues else _after_tag(reply) if at is None else at
    if start is None:
        return None
    rest = reply[start:]
    first = len(reply) - len(rest.lstrip(_MARKS))
    word = spelling_of(rest)
    if word not in ("yes", "no") or label not in (None, word):
        return None
    ends = list(accumulate(len(token.text) for token in tokens))
    index = next(index for index, end in enumerate(ends) if end > first)
    before = tokens[index].text[: first - (ends[index] - len(tokens[index].text))]
    return None if before.strip(_MARKS) else index


def _after_tag(reply: bytes) -> int | None:
    """Where the last answer tag after the thinking ends, None where there is none."""
    thinking = _THINKING.match(reply)
    tags = list(_ANSWER.finditer(reply, thinking.end() if thinking else 0))
    return tags[-1].end() if tags else None


def _likeliest_first(tokens: Sequence[Token]) -> list[Token]:
    """The tokens as if the likeliest candidate for the first one had been drawn."""
    if not tokens or tokens[0].complete:  # which was decided between the two words alone
        return list(tokens)
    candidates = ((tokens[0].text, tokens[0].logprob), *tokens[0].alternatives)
    text, _ = max(candidates, key=lambda candidate: candidate[1])
    return [replace(tokens[0], text=text), *tokens[1:]]


@dataclass(frozen=True, slots=True)
class _Reported:
    """The (bytes, probability) that a server reported at a position, and the most that it hid from either word."""

    candidates: list[tuple[bytes, float]]
    hidden: float


def _reported(token: Token) -> _Reported | None:
    """What is known of a position, None where the numbers are no log-probabilities."""
    listed = dict.fromkeys(token.alternatives)  # a token that is listed twice counts once
    if all(text != token.text for text, _ in listed):
        listed[token.text, token.logprob] = None
    if any(logprob > _ROUNDING for _, logprob in listed):
        return None
    candidates = [(text, math.exp(min(logprob, 0.0))) for text, logprob in listed if logprob > SENTINEL]
    total = sum(probability for _, probability in candidates)
    if total > 1.0 + _ROUNDING:
        return None
    if token.complete:
        return _Reported(candidates, 0.0)
    # Of the sampled token it only says that it is not among the likeliest.
    masked = any(logprob <= SENTINEL for text, logprob in token.alternatives if text != token.text)
    if masked and total > _WHOLE:
        return _Reported(candidates, 0.0)  # a grammar forbids every other token, and the rest was normalised after it
    # Servers append the sampled token to the k likeliest, so it may be less likely than hidden ones.
    least = min((probability for text, probability in candidates if text != token.text), default=1.0)
    return _Reported(candidates, min(max(_UNSEEN, 1.0 - total), SPELLINGS * least))


def _log(probability: float) -> float:
    return math.log(max(probability, _TINY))


def _clamp(delta: float) -> float:
    return max(-LIMIT, min(LIMIT, delta))
