"""How sure the teacher is of its verdict: the first rung of its ladder that gives a margin, recorded by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from prompts.judge import HOW_SURE, parse_percentage, parse_verdict, up_to_answer
from prompts.reply import UnparsableReply
from schemas.query import ConfidenceSource, Label, Margin
from transforms.engines.protocols import Teacher, TeacherFailed, TeacherReply, TeacherRequest
from transforms.margin import LIMIT, decision_margin
from transforms.write_queries import answer_of, seed_of

_Z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations


@dataclass(frozen=True, slots=True)
class Judged:
    """A teacher's reply to a request to judge, and the label that was read from it."""

    teacher: Teacher
    request: TeacherRequest
    reply: TeacherReply
    label: Label


def first_source(teacher: Teacher) -> ConfidenceSource:
    """What the first reply of a pair is asked for: log-probabilities, where they are a rung of the teacher's."""
    return "logprobs" if "logprobs" in teacher.ladder.rungs else "label_only"


def confidence_of(judged: Judged) -> tuple[ConfidenceSource, Margin | None]:
    """The margin of a verdict and the rung that gave it; ("label_only", None) where no rung did.

    Rungs are tried in the ladder's order, each with as many further calls as it takes. A rung that the teacher refuses
    for good, or answers in a way that cannot be read, gives no margin. One that fails for now is not passed over, or
    the weather would decide what a row holds.

    Raises:
        TeacherFailed: a further call failed, and may succeed later.
    """
    for source in judged.teacher.ladder.rungs:
        margin = _RUNGS[source](judged)
        if margin is not None:
            return source, margin
    return "label_only", None


def margin_of_share(yes: int, n: int) -> Margin:
    """The margin of ``yes`` among ``n`` replies, by the rule of succession; bounds are Wilson's interval of 95 %.

    >>> round(margin_of_share(8, 8).delta, 2), round(margin_of_share(8, 8).lo, 2)
    (2.2, 0.73)
    """
    centre, spread = yes + _Z**2 / 2, _Z * math.sqrt(yes * (n - yes) / n + _Z**2 / 4)
    total = n + _Z**2
    return Margin(_logit((yes + 1) / (n + 2)), _logit((centre - spread) / total), _logit((centre + spread) / total))


def margin_of_percentage(percent: int) -> Margin:
    """The margin of a probability that the teacher states in percent; bounds are those of its rounding."""
    return Margin(_logit((percent + 0.5) / 101), _logit((percent - 0.5) / 100), _logit((percent + 0.5) / 100))


def _of_tokens(judged: Judged) -> Margin | None:
    return decision_margin(judged.reply.tokens, label=judged.label)


def _of_prefill(judged: Judged) -> Margin | None:
    said = up_to_answer(judged.reply.text)
    reply = _ask(judged, replace(judged.request, confidence="logprobs_prefill", said=said))
    return decision_margin(reply.tokens, continues=True) if reply else None


def _of_samples(judged: Judged) -> Margin | None:
    asked = judged.teacher.ladder.samples
    labels = list(_sampled(judged, asked))
    # What fails to parse may lean to one side: the share among the few others would not be the teacher's.
    return margin_of_share(labels.count("yes"), len(labels)) if 2 * len(labels) > asked else None


def _sampled(judged: Judged, n: int) -> Iterator[Label]:
    for number in range(n):
        seed = seed_of(judged.request.seed, "sampling", str(number))
        reply = _ask(judged, replace(judged.request, confidence="sampling", seed=seed))
        if reply is None:
            return
        try:
            yield parse_verdict(answer_of(reply)).label
        except UnparsableReply:
            continue


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
    "logprobs": _of_tokens,
    "rules": _of_tokens,
    "logprobs_prefill": _of_prefill,
    "sampling": _of_samples,
    "verbalized": _of_statement,
}


def _logit(p: float) -> float:
    if p <= 0.0 or p >= 1.0:
        return -LIMIT if p <= 0.0 else LIMIT
    return max(-LIMIT, min(LIMIT, math.log(p) - math.log1p(-p)))
