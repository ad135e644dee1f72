"""What an example keeps of a judgement: the same columns, whether the candidate is a video or a query."""

from __future__ import annotations

from typing import Any

from schemas.query import Judgement


def verdict_of(judgement: Judgement) -> dict[str, Any]:
    """The fields of a candidate that a judgement fills; those of a margin are None where there is none."""
    margin = judgement.margin
    return {
        "teacher_label": judgement.label,
        "delta": margin.delta if margin else None,
        "delta_lo": margin.lo if margin else None,
        "delta_hi": margin.hi if margin else None,
        "p_yes": margin.p_yes if margin else None,
        "confidence_source": judgement.confidence_source,
        "rationale": judgement.rationale,
        "censored": margin.censored if margin else None,
        "label_mass": margin.label_mass if margin else None,
        "delta_prior": judgement.delta_prior,
    }
