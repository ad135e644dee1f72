"""Asking the judge again: the same pairs in other words, unrelated pairs, and pairs with planted texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from pipeline.audit.payloads import PAYLOADS, planted
from pipeline.audit.sample import Judged
from prompts.evidence import EvidenceBudgets
from prompts.reply import UnparsableReply
from prompts.template import Template, load_template
from schemas.query import Judgement
from schemas.video import Modality
from transforms.journal.counts import counted_aside
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judge_pair
from transforms.protocols.engine import Waits
from transforms.protocols.teacher import TeacherEngine, TeacherFailed
from transforms.teacher.recorded_teacher import RecordedTeacher
from transforms.workers import window

AS_JUDGED = ""  # the question as the run put it
Change = tuple[str, str, float | None]  # label before, label after, change of the margin


@dataclass(frozen=True)
class Judge:
    """The judge of a run: everything that decides its replies."""

    engine: TeacherEngine
    journal: Journal
    template: Template
    modalities: tuple[Modality, ...]
    budgets: EvidenceBudgets
    seed: int


@dataclass(frozen=True, slots=True)
class Question:
    """A pair and how it is asked about; ``way`` names what is unlike the run's own question."""

    way: str
    pair: Pair
    template: Template
    seed: int


@dataclass(frozen=True, slots=True)
class Answer:
    """The judgement, or None with the reason where there is none; ``paid`` says that the journal did not hold it."""

    question: Question
    judgement: Judgement | None
    problem: str
    paid: bool


def bias_questions(judge: Judge, sample: Sequence[Judged]) -> list[Question]:
    """Each judged pair with the answers named in the other order, in other words, and with another seed."""
    ways = {
        "no before yes": (no_first(judge.template), judge.seed),
        "other words": (in_other_words(judge.template), judge.seed),
        "another seed": (judge.template, judge.seed + 1),
    }
    return [
        Question(way, judged.pair, template, seed)
        for judged in sample
        for way, (template, seed) in ways.items()
        if template is not None
    ]


def in_other_words(template: Template) -> Template:
    """The prompt that asks the same in other words; it shows examples where a prompt of ours does, or is another's."""
    bare = template.source == load_template("judge_without_example").source
    return load_template("judge_reworded_without_example" if bare else "judge_reworded")


def no_first(template: Template) -> Template | None:
    """The prompt with its two example answers in the other order, None where it does not show both.

    Their lines change places, for an answer belongs to what stands before it; on one line, the answers alone.

    >>> no_first(Template("judge", "so: <answer>yes</answer>\\nbut: <answer>no</answer>")).source
    'but: <answer>no</answer>\\nso: <answer>yes</answer>'
    >>> no_first(Template("judge", "<answer>yes</answer> or <answer>no</answer>")).source
    '<answer>no</answer> or <answer>yes</answer>'
    """
    yes, no, mark = "<answer>yes</answer>", "<answer>no</answer>", "\0"
    if template.source.count(yes) != 1 or template.source.count(no) != 1:
        return None
    lines = template.source.split("\n")
    of_yes, of_no = (next(line for line in lines if answer in line) for answer in (yes, no))
    if of_yes != of_no:
        yes, no = of_yes, of_no
    return replace(template, source=template.source.replace(yes, mark).replace(no, yes).replace(mark, no))


def plain_questions(judge: Judge, pairs: Sequence[Pair]) -> list[Question]:
    """Each pair as the run would have asked about it."""
    return [Question(AS_JUDGED, pair, judge.template, judge.seed) for pair in pairs]


def planted_questions(judge: Judge, pairs: Sequence[Pair]) -> list[Question]:
    """Each unrelated pair with each payload, planted in the modalities that the judge sees by turns."""
    return [
        Question(
            family,
            _with_payload(pair, judge.modalities[number % len(judge.modalities)], payload),
            judge.template,
            judge.seed,
        )
        for number, pair in enumerate(pairs)
        for family, payload in PAYLOADS.items()
    ]


def _with_payload(pair: Pair, modality: Modality, payload: Callable[[str], str]) -> Pair:
    evidence = planted(pair.video.evidence, modality, payload(pair.query.text))
    return replace(pair, video=replace(pair.video, evidence=evidence))


def answers_to(judge: Judge, questions: Sequence[Question], told: Callable[[], object]) -> list[Answer]:
    """The judge's answers in the order of the questions, many asked at a time; ``told`` is called after each.

    Every reply is recorded in the judge's journal: the same audit again asks nothing.
    """

    def answer(question: Question) -> Answer:
        with counted_aside() as counts:
            judgement, problem = _ask(judge, question)
        told()
        return Answer(question, judgement, problem, paid=any(name in ("run", "failed") for _, name, _ in counts))

    at_once = judge.engine.at_once if isinstance(judge.engine, Waits) else 1
    try:
        with ThreadPoolExecutor(at_once) as threads:
            return list(threads.map(answer, questions))
    finally:
        window.shut_down()  # the event loop of the client


def _ask(judge: Judge, question: Question) -> tuple[Judgement | None, str]:
    teacher = RecordedTeacher(judge.engine, judge.journal)
    try:
        judgement = judge_pair(
            teacher,
            judge.engine.stamp(),
            question.pair,
            JudgeOptions(judge.modalities, question.seed, judge.budgets, question.template),
        )
    except UnparsableReply as error:
        return None, error.reason
    except TeacherFailed as error:
        return None, f"failed: {error}"
    return judgement, ""


def changes(before: Iterable[tuple[str, float | None] | None], after: Iterable[Answer]) -> list[Change | None]:
    """What became of each pair's (label, margin); None where either could not be read."""
    found: list[Change | None] = []
    for was, answer in zip(before, after, strict=True):
        now = answer.judgement
        if was is None or now is None:
            found.append(None)
            continue
        label, delta = was
        change = now.margin.delta - delta if now.margin is not None and delta is not None else None
        found.append((label, now.label, change))
    return found
