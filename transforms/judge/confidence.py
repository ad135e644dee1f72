"""How sure the teacher is of its verdict: the first rung of its ladder that gives a margin, recorded by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import fmean

from prompts.judge import HOW_SURE, parse_percentage, parse_verdict, up_to_answer
from prompts.margin import LIMIT, decision_margin, logit
from prompts.reply import UnparsableReply
from prompts.template import Template
from schemas.query import ConfidenceSource, Label, Margin
from transforms.journal.budget import Deferred
from transforms.protocols.teacher import Ladder, Teacher, TeacherFailed, TeacherReply, TeacherRequest
from transforms.teacher.asking import answer_of, seed_of

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True)
class Judged:
    """A teacher's reply to a request to judge, and the label that was read from it.

    ``template`` is that of the prompt, where it is not this package's own.
    """

    teacher: Teacher
    request: TeacherRequest
    reply: TeacherReply
    label: Label
    template: Template | None = None


def first_source(teacher: Teacher) -> ConfidenceSource:
    """What the first reply of a pair is asked for: log-probabilities, where they are a rung of the teacher's."""
    ladder = teacher.ladder
    if "logprobs_exact" in ladder.rungs and "logprobs_exact" not in ladder.lacking:
        return "logprobs_exact"
    return "logprobs" if "logprobs" in teacher.ladder.rungs else "label_only"


def confidence_of(judged: Judged) -> tuple[ConfidenceSource, Margin | None]:
    """The margin of a verdict and the rung that gave it; ("label_only", None) where no rung did.

    Rungs are tried in the ladder's order, each with as many further calls as it takes. A rung that the teacher refuses
    for good, or answers in a way that cannot be read, gives no margin. One that fails for now is not passed over, or
    the weather would decide what a row holds.

    Raises:
        TeacherFailed: a further call failed, and may succeed later.
    """
    ladder = judged.teacher.ladder
    for source in (rung for rung in ladder.rungs if rung not in ladder.lacking):
        margin = _RUNGS[source](judged)
        if margin is not None:
            return source, margin
    return "label_only", None


def least_margin(ladder: Ladder) -> float | None:
    """The lowest margin (nats) that a verdict may have by this ladder; None where none has any.

    >>> round(least_margin(Ladder(("sampling",), samples=8)), 2), round(least_margin(Ladder(("verbalized",))), 2)
    (-2.2, -5.3)
    """
    reached: dict[ConfidenceSource, float] = {"verbalized": margin_of_percentage(0).delta}
    if not _told_in_samples(ladder):
        reached["sampling"] = margin_of_share(0, max(1, ladder.samples)).delta
    return min((reached.get(rung, -LIMIT) for rung in ladder.rungs if rung not in ladder.lacking), default=None)


def _told_in_samples(ladder: Ladder) -> bool:
    """Whether samples tell their log-probabilities: at temperature 1 they are the model's, whatever they follow."""
    return "logprobs" in ladder.rungs and ("logprobs" not in ladder.lacking or ladder.tells_logprobs)


def margin_of_share(yes: int, n: int) -> Margin:
    """The margin of ``yes`` among ``n`` replies, by the rule of succession; bounds are Wilson's interval of 95 %.

    >>> round(margin_of_share(8, 8).delta, 2), round(margin_of_share(8, 8).lo, 2)
    (2.2, 0.73)
    """
    return Margin(logit((yes + 1) / (n + 2)), *_wilson(yes, yes, n))


def margin_of_mean(margins: Sequence[Margin]) -> Margin:
    """The margin of the mean probability of yes in replies that each tell theirs: it varies less than their words do.

    Bounds are Wilson's interval of 95 % as of words, and wider than they need be: no probability varies more than a
    word of the same mean does.
    """
    lo, delta, hi = (
        [Margin(at, at, at).p_yes for at in ends]
        for ends in zip(*((margin.lo, margin.delta, margin.hi) for margin in margins), strict=True)
    )
    return Margin(logit(fmean(delta)), *_wilson(sum(lo), sum(hi), len(margins)))


def margin_of_percentage(percent: int) -> Margin:
    """The margin of a probability that the teacher states in percent; bounds are those of its rounding."""
    return Margin(logit((percent + 0.5) / 101), logit((percent - 0.5) / 100), logit((percent + 0.5) / 100))


def _of_tokens(judged: Judged) -> Margin | None:
    return _told(judged.reply, judged.label, judged.template)


def _told(reply: TeacherReply, label: Label, template: Template | None, exactly: bool = False) -> Margin | None:
    """The margin that a reply's own log-probabilities tell; ``exactly`` where those of every spelling must be told."""
    if template is None or template.parser is None:
        return decision_margin(reply.tokens, label=label, only_complete=exactly)
    said = b"".join(token.text for token in reply.tokens).decode(errors="surrogateescape")
    place = template.parser.answer_at(said) if said else None
    if place is None:
        return None
    at = len(said[:place].encode(errors="surrogateescape"))
    return decision_margin(reply.tokens, label=label, at=at, only_complete=exactly)


def _of_all_spellings(judged: Judged) -> Margin | None:
    """Of a reply that lists every spelling at its decision; another server than was seen may have sent it."""
    return _told(judged.reply, judged.label, judged.template, exactly=True)


def _of_prefill(judged: Judged) -> Margin | None:
    said = up_to_answer(judged.reply.text, judged.template)
    if said is None:
        return None
    reply = _ask(judged, replace(judged.request, confidence="logprobs_prefill", said=said))
    return decision_margin(reply.tokens, continues=True) if reply else None


def _of_samples(judged: Judged) -> Margin | None:
    asked = judged.teacher.ladder.samples
    labels, margins = zip(*drawn, strict=True) if (drawn := list(_sampled(judged, asked))) else ((), ())
    # What fails to parse may lean to one side: the share among the few others would not be the teacher's.
    if 2 * len(labels) <= asked:
        return None
    told = [margin for margin in margins if margin is not None]
    return margin_of_mean(told) if len(told) == len(labels) else margin_of_share(labels.count("yes"), len(labels))


def _sampled(judged: Judged, n: int) -> Iterator[tuple[Label, Margin | None]]:
    """What further replies say; their margins too, where log-probabilities are a rung of the ladder."""
    logprobs = "logprobs" in judged.teacher.ladder.rungs
    sampled = replace(judged.request, confidence="sampling", logprobs=logprobs)
    requests = [replace(sampled, seed=seed_of(sampled.seed, "sampling", str(number))) for number in range(n)]
    for number, request in enumerate(requests):
        try:
            reply = _ask(judged, request)
        except Deferred:
            # All of them belong into the same batch: a batch takes hours.
            for later in requests[number + 1 :]:
                with suppress(Deferred):
                    _ask(judged, later)
            raise
        if reply is None:
            return
        try:
            label = parse_verdict(answer_of(reply), judged.template).label
        except UnparsableReply:
            continue
        yield label, _told(reply, label, judged.template)


def _of_statement(judged: Judged) -> Margin | None:
    further = replace(judged.request, confidence="verbalized", said=judged.reply.text, follow_up=HOW_SURE)
    reply = _ask(judged, further)
    if reply is None:
        return None
    try:
        return margin_of_percentage(parse_percentage(answer_of(reply)))
    except UnparsableReply:
        return None


def _ask(judged: Judged, request: TeacherRequest) -> TeacherReply | None:
    """The reply to a further request, None where the teacher refuses it for good."""
    subject = f"{request.subject} {request.confidence}"
    try:
        return judged.teacher.reply(replace(request, subject=subject))
    except TeacherFailed as error:
        if error.permanent:
            return None
        raise


_RUNGS: Mapping[ConfidenceSource, Callable[[Judged], Margin | None]] = {
    "logprobs_exact": _of_all_spellings,
    "logprobs": _of_tokens,
    "rules": _of_tokens,
    "logprobs_prefill": _of_prefill,
    "sampling": _of_samples,
    "verbalized": _of_statement,
}


def _wilson(least: float, most: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share, from the least and the most that it may be of ``n``, as margins."""

    def end(yes: float, side: int) -> float:
        spread = _Z * math.sqrt(yes * (n - yes) / n + _Z**2 / 4)
        return logit((yes + _Z**2 / 2 + side * spread) / (n + _Z**2))

    return end(least, -1), end(most, 1)
