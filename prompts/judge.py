"""The judging prompt: what it is filled with, and how the verdict is read from its reply."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from prompts.echo import echoes
from prompts.evidence import DEFAULT_BUDGETS, EvidenceBudgets, quote, render_evidence
from prompts.reply import UnparsableReply, excerpt, last_thought, split_thinking, without_tags
from prompts.template import Prompt, Template, load_template
from schemas.query import Label
from schemas.video import Evidence, Modality

HOW_SURE = (
    "How likely is it that the video answers the query? Reply with one whole number from 0 (certainly not) to 100 "
    "(certainly), and nothing else."
)
"""What a teacher is asked about a verdict of its own, where nothing else tells how sure it is."""

_PERCENTAGE = re.compile(r"\s*(\d{1,3})\s*%?\.?\s*", re.ASCII)
_ANSWER_OPENS = re.compile(r"<answer>", re.IGNORECASE)
# The word is the whole answer: nothing but marks around it, up to the closing tag, a control token, or the end, where a
# stop string may have left the start of the tag.
_WORD = re.compile(r"[\s*_\"'`]*(?P<word>[^\W\d_]+)[\s*_\"'`.!,;:。！]*(?:</answer\b|<\||(?:</?)?\Z)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The teacher's answer and why; the rationale is empty where the server keeps the model's thoughts to itself."""

    label: Label
    rationale: str


def judge_values(
    evidence: Evidence,
    modalities: Collection[Modality],
    video_id: str,
    query: str,
    budgets: EvidenceBudgets = DEFAULT_BUDGETS,
) -> dict[str, str]:
    """What the slots of the judging prompt are filled with."""
    quoted = quote(query)
    return {"evidence": render_evidence(evidence, modalities, video_id, budgets, beside=quoted), "query": quoted}


def judge_prompt(
    evidence: Evidence,
    modalities: Collection[Modality],
    video_id: str,
    query: str,
    budgets: EvidenceBudgets = DEFAULT_BUDGETS,
    template: Template | None = None,
) -> Prompt:
    """The prompt that asks whether a video answers a query. The evidence comes first: it is what prompts share.

    ``template`` takes the place of this package's own.
    """
    return (template or load_template("judge")).render(**judge_values(evidence, modalities, video_id, query, budgets))


def parse_verdict(reply: str, template: Template | None = None) -> Verdict:
    """The verdict of a reply: the word after the last ``<answer>`` that follows the last ``</think>``.

    The word must be exactly yes or no, in any case; a stop string may have taken the closing tag. The rationale is the
    last ``<think>`` block; one that is taken from the prompt judges nothing. There is no default: whatever else a reply
    says, it does not say yes or no. ``template`` is that of the prompt, where it is not this package's own.

    Raises:
        UnparsableReply: "empty reply", "truncated", "no answer", "not yes/no", "two answers" (that differ) or
            "echoes the prompt"; or whatever the template's parser says.
    """
    thinking, answer = split_thinking(template.ours(reply) if template else reply)
    answers = _ANSWER_OPENS.split(answer)[1:]
    if not answers:
        raise UnparsableReply("no answer", excerpt(reply, end=True))
    labels = [_label(text) for text in answers]
    if len(set(labels)) > 1:
        raise UnparsableReply("two answers", excerpt(answer))
    rationale = last_thought(thinking)
    if echoes(rationale, template or load_template("judge")):
        raise UnparsableReply("echoes the prompt", excerpt(rationale))
    return Verdict(labels[-1], rationale)


def up_to_answer(reply: str, template: Template | None = None) -> str | None:
    """A reply with a verdict, up to where the answer starts: its last ``<answer>`` is the end.

    Thoughts are laid out the way chat templates do it that take them out of a message and put them back (Qwen3's): a
    server refuses to go on from a message that its template changes. A reply that a parser of the ``template`` reads
    ends where that says, and is None where it does not say.
    """
    if template and template.parser:
        place = template.parser.answer_at(reply)
        return None if place is None else reply[:place]
    thinking, answer = split_thinking(reply)
    *_, opens = _ANSWER_OPENS.finditer(answer)
    start = answer[: opens.end()].lstrip()
    return f"<think>\n{without_tags(thinking)}\n</think>\n\n{start}" if thinking else start


def parse_percentage(reply: str) -> int:
    """The number in [0, 100] that is all that a reply to ``HOW_SURE`` says after its thinking.

    Raises:
        UnparsableReply: "no number", "empty reply" or "truncated".
    """
    _, answer = split_thinking(reply)
    found = _PERCENTAGE.fullmatch(answer)
    if found is None or int(found[1]) > 100:
        raise UnparsableReply("no number", excerpt(answer))
    return int(found[1])


def _label(text: str) -> Label:
    if not text.strip():
        raise UnparsableReply("truncated", "the reply ends at <answer>")
    found = _WORD.match(text)
    match found and found["word"].casefold():
        case "yes":
            return "yes"
        case "no":
            return "no"
        case _:
            raise UnparsableReply("not yes/no", excerpt(text))
