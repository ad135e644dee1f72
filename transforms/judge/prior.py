"""What a teacher says of a pair before it reasons: the margin of an answer without a rationale."""

from __future__ import annotations

from dataclasses import dataclass, replace

from prompts.margin import decision_margin, logit
from schemas.query import Margin
from transforms.protocols.teacher import ContextOverflow, Teacher, TeacherFailed, TeacherRequest

ANSWER_TAG = "<answer>"

_ROUNDING = 2.0**-24  # of a probability near 1, which servers compute in 32 bits


@dataclass(frozen=True, slots=True)
class Prior:
    """The margin of an answer without a rationale, and what the teacher said."""

    margin: Margin
    said: str


def prior_of(teacher: Teacher, request: TeacherRequest) -> Prior | None:
    """The prior of the pair that ``request`` asks about, by one further call; None where there is none to be had.

    There is none where the teacher is not to be asked for one, refuses for good, or says neither yes nor no. A call
    that fails for now is not passed over, or the weather would decide what a row holds.

    Raises:
        ContextOverflow: the prompt is too long, and would be so with a rationale.
        TeacherFailed: the call failed, and may succeed later.
    """
    way = teacher.ladder.prior
    if way is None:
        return None
    said = ANSWER_TAG if way == "prefill" else ""
    subject = f"{request.subject} prior"
    try:
        reply = teacher.reply(replace(request, confidence="prior", prior=way, said=said, subject=subject))
    except ContextOverflow:
        raise
    except TeacherFailed as error:
        if error.permanent:
            return None
        raise
    if reply.refused:
        return None
    stated = reply.p_yes
    margin = decision_margin(reply.tokens, continues=True) if stated is None else margin_of_probability(stated)
    # llama.cpp gives back what it went on from as well.
    return Prior(margin, said + reply.text.removeprefix(said)) if margin else None


def margin_of_probability(p_yes: float) -> Margin:
    """The margin of a stated probability; bounds are those of its rounding, which near 0 and 1 are wide.

    >>> margin_of_probability(0.25).delta, margin_of_probability(1.0).hi
    (-1.0986122886681098, 20.0)
    """
    return Margin(logit(p_yes), logit(p_yes - _ROUNDING), logit(p_yes + _ROUNDING))
