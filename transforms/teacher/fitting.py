"""Prompts that fit what a teacher reads at a time: estimated before they are sent, cut again where a server refuses."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection
from typing import TypeVar

from prompts.evidence import EvidenceBudgets, evidence_cut, tighten
from prompts.template import Prompt
from schemas.query import EvidenceCut
from schemas.video import Evidence, Modality
from transforms.protocols.teacher import ContextOverflow, Teacher

T = TypeVar("T")
Ask = Callable[[Prompt, tuple[EvidenceCut, ...]], T]

_TEMPLATE_TOKENS = 64  # what chat templates put around a system and a user message, and some more


def ask_fitting(
    teacher: Teacher,
    evidence: Evidence,
    modalities: Collection[Modality],
    budgets: EvidenceBudgets,
    render: Callable[[EvidenceBudgets], Prompt],
    ask: Ask[T],
) -> T:
    """What ``ask`` makes of the prompt that ``render`` lays out, given what was cut from the evidence for it.

    Where the teacher states how much it reads, budgets are first scaled down, all by the same share, until the prompt
    is estimated to fit. Where it refuses the prompt as too long all the same, half of what it showed is asked about,
    once.

    Raises:
        ContextOverflow: the teacher refuses that too, or the prompt does not fit without any evidence.
        Exception: any other error of ``ask``.
    """

    def asked(budgets: EvidenceBudgets) -> T:
        return ask(render(budgets), evidence_cut(evidence, modalities, budgets))

    room = teacher.prompt_tokens
    fitting = budgets if room is None else scaled_to_fit(evidence, budgets, render, room)
    try:
        return asked(fitting)
    except ContextOverflow:
        half = tighten(evidence, fitting).share(50)
    return asked(half)


def scaled_to_fit(
    evidence: Evidence, budgets: EvidenceBudgets, render: Callable[[EvidenceBudgets], Prompt], room: int
) -> EvidenceBudgets:
    """The budgets, or the largest per cent of what they show by which the prompt is estimated to fit ``room`` tokens.

    Raises:
        ContextOverflow: not even a hundredth does.
    """
    if (tokens := prompt_tokens(render(budgets))) <= room:
        return budgets
    shown = tighten(evidence, budgets)
    percent = bisect_right(range(1, 101), room, key=lambda percent: prompt_tokens(render(shown.share(percent))))
    if not percent:
        raise ContextOverflow(f"a prompt of some {tokens} tokens cannot be cut to the {room} that there is room for")
    return shown.share(percent)


def prompt_tokens(prompt: Prompt) -> int:
    """About how many tokens a prompt is, chat template included; meant to be too many rather than too few."""
    return _TEMPLATE_TOKENS + text_tokens(prompt.system) + text_tokens(prompt.user)


def text_tokens(text: str) -> int:
    """About how many tokens a text is, whichever the tokenizer, from its characters.

    Against Whisper's multilingual tokenizer (50,000 tokens; those of today's models know more words), with digits cut
    one by one as Qwen's are, it is 1.0 to 2.8 times the count: on prose in 13 languages, 1.7 of them on English, on
    numbers, signs and emoji. An English-only tokenizer (GPT-2's) takes more for other scripts.
    """
    return round(sum(count * _tokens_of(character) for character, count in Counter(text).items()) + 0.5)


def _tokens_of(character: str) -> float:
    if not character.isascii():
        size = len(character.encode("utf-8", "surrogatepass"))
        return 3.0 if size == 4 else size / 2
    if character.isalpha():
        return 0.4 if character.islower() else 0.5
    return 0.25 if character == " " else 1.2
