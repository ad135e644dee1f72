"""The whole audit: what the tables say of a judge, and what it answers when it is asked again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.audit.ask import (
    Answer,
    Judge,
    Question,
    answers_to,
    bias_questions,
    changes,
    plain_questions,
    planted_questions,
)
from pipeline.audit.coverage import Coverage, coverage
from pipeline.audit.figures import Calibration, Shift, calibration, shift
from pipeline.audit.sample import Judged, judged_sample, left_out_sample, unrelated_sample, video_index
from pipeline.outputs.manifest import Manifest
from pipeline.outputs.tables import Tables
from pipeline.outputs.thresholds import rules_of
from transforms.storage.files import join
from transforms.storage.trec import read_qrels


@dataclass(frozen=True, slots=True)
class Audit:
    """What is known of a judge.

    ``alpha1`` and ``alpha2`` are the run's thresholds (nats). What follows ``coverage`` is there only where the judge
    was asked: ``calibration`` of the known positives against unrelated pairs, None where either have no margins;
    ``unrelated_yes`` of ``unrelated`` such pairs were called relevant, and ``left_out_yes`` of ``left_out`` pairs that
    mining left out before they were judged (as near-duplicates or above the margin); ``biases`` by way of asking;
    ``planted`` by family of payload, over unrelated pairs that the judge calls irrelevant without it. ``problems`` are
    replies that could not be read or had, by reason.
    """

    alpha1: float
    alpha2: float
    coverage: Coverage
    sample: int = 0
    asked: int = 0
    cached: int = 0
    unrelated: int = 0
    unrelated_yes: int = 0
    left_out: int = 0
    left_out_yes: int = 0
    calibration: Calibration | None = None
    biases: Mapping[str, Shift] = field(default_factory=dict)
    planted: Mapping[str, Shift] = field(default_factory=dict)
    problems: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Questions:
    """All that an audit asks, and the judged pairs that the first of it is about."""

    judged: tuple[Judged, ...]
    bias: tuple[Question, ...]
    unrelated: tuple[Question, ...]
    planted: tuple[Question, ...]
    left_out: tuple[Question, ...]

    def __len__(self) -> int:
        return len(self.bias) + len(self.unrelated) + len(self.planted) + len(self.left_out)


def questions_of(output: str, tables: Tables, judge: Judge, n: int) -> Questions:
    """What to ask about ``n`` pairs each: judged, unrelated and left out; the same for every audit of an output."""
    videos = video_index(tables)
    judged = judged_sample(tables, videos, n)
    relevant = read_qrels(join(output, "qrels.trec"))
    pairs = unrelated_sample(tables, videos, relevant, judge.modalities, n)
    return Questions(
        tuple(judged),
        tuple(bias_questions(judge, judged)),
        tuple(plain_questions(judge, pairs)),
        tuple(planted_questions(judge, pairs)),
        tuple(plain_questions(judge, left_out_sample(tables, videos, judge.modalities, n))),
    )


def audit(
    manifest: Manifest,
    tables: Tables,
    judge: Judge | None = None,
    questions: Questions | None = None,
    told: Callable[[], object] = lambda: None,
) -> Audit:
    """Read the tables, and put the questions, if any, to the judge; ``told`` is called after each answer.

    Raises:
        EngineError: the judge cannot be asked at all.
    """
    rules, found = rules_of(manifest), coverage(tables)
    alpha1, alpha2 = rules.alpha1, rules.alpha2
    if judge is None or questions is None:
        return Audit(alpha1, alpha2, found)
    kinds = (questions.bias, questions.unrelated, questions.planted, questions.left_out)
    bias, unrelated, planted, left_out = (answers_to(judge, asked, told) for asked in kinds)
    clean = {_ids(answer): answer.judgement for answer in unrelated}
    margins = [judgement.margin.delta for judgement in clean.values() if judgement and judgement.margin]
    said_no = [answer for answer in planted if (was := clean[_ids(answer)]) is not None and was.label == "no"]
    before = {_ids(answer): _verdict(answer) for answer in unrelated}
    judged = {(j.pair.query.query_id, j.pair.video.video_id): (j.label, j.delta) for j in questions.judged}
    everything = [*bias, *unrelated, *planted, *left_out]
    others = [answer.judgement for answer in left_out if answer.judgement is not None]
    return Audit(
        alpha1,
        alpha2,
        found,
        sample=len(questions.judged),
        asked=sum(answer.paid for answer in everything),
        cached=sum(not answer.paid for answer in everything),
        unrelated=sum(judgement is not None for judgement in clean.values()),
        unrelated_yes=sum(judgement is not None and judgement.label == "yes" for judgement in clean.values()),
        left_out=len(others),
        left_out_yes=sum(judgement.label == "yes" for judgement in others),
        calibration=calibration(found.positives, margins, alpha1),
        biases=_shifts(bias, judged),
        planted=_shifts(said_no, before),
        problems=Counter(answer.problem.partition(":")[0] for answer in everything if answer.judgement is None),
    )


def _shifts(
    answers: Sequence[Answer], before: Mapping[tuple[str, str], tuple[str, float | None] | None]
) -> dict[str, Shift]:
    """By way of asking, in the order in which they were first asked."""
    ways: dict[str, list[Answer]] = {}
    for answer in answers:
        ways.setdefault(answer.question.way, []).append(answer)
    return {way: shift(changes([before[_ids(answer)] for answer in found], found)) for way, found in ways.items()}


def _ids(answer: Answer) -> tuple[str, str]:
    return answer.question.pair.query.query_id, answer.question.pair.video.video_id


def _verdict(answer: Answer) -> tuple[str, float | None] | None:
    judgement = answer.judgement
    return None if judgement is None else (judgement.label, judgement.margin.delta if judgement.margin else None)
