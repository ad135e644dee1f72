"""Judging: the teacher reads a video's evidence and a query, and says yes or no, with a rationale and a margin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import apache_beam as beam

from prompts.evidence import DEFAULT_BUDGETS, EvidenceBudgets, neutralise, only
from prompts.judge import judge_prompt, parse_verdict
from prompts.reply import UnparsableReply
from prompts.template import Prompt, Template
from schemas.check import require
from schemas.losses import Loss
from schemas.query import Candidate, EvidenceCut, Judgement, Margin, Opinion, Place, Query, QueryText
from schemas.video import EngineStamp, Modality, Video
from schemas.visible import UNREADABLE, visible
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.judge.confidence import Judged, confidence_of, first_source
from transforms.judge.prior import prior_of
from transforms.ledger import LOSSES, lost
from transforms.progress import advance
from transforms.protocols.teacher import Teacher, TeacherEngine, TeacherFailed, TeacherRequest
from transforms.teacher.asking import answer_of, seed_of
from transforms.teacher.fitting import ask_fitting
from transforms.teacher.panel import PanelRules
from transforms.teacher.recorded_teacher import RecordedTeacher
from transforms.workers.recorded import WORK, recorded_map

DOUBTFUL = "doubtful"  # the tag of pairs of which a panel is asked


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a video to judge it against.

    ``candidate`` is the video's place in the first stage's run, None where the run does not hold it; ``runs`` are its
    places in each of the runs that this one was fused from. ``is_positive`` says that the video is labelled as an
    answer, whatever the teacher will think of it.
    """

    query: Query | QueryText
    video: Video
    candidate: Candidate | None
    is_positive: bool
    runs: tuple[Place, ...] = ()

    def __post_init__(self) -> None:
        same = self.candidate is None or self.candidate.video_id == self.video.video_id
        require(same, "a pair's candidate and video are the same video", self.candidate)


@dataclass(frozen=True, slots=True)
class JudgeOptions:
    """How a judge is asked: about which modalities of a video, cut to which budgets, by which prompt (None: ours).

    ``no_rationale_below`` is a margin in nats; see ``judge_pair``. ``member`` is its name in the panel, "" of the first
    judge, which hands on the pairs that the ``panel`` is asked about, where there is one.
    """

    modalities: tuple[Modality, ...] = ("caption",)
    seed: int = 0
    budgets: EvidenceBudgets = DEFAULT_BUDGETS
    template: Template | None = None
    no_rationale_below: float | None = None
    member: str = ""
    panel: PanelRules | None = None


def judge_pair(teacher: Teacher, stamp: EngineStamp, pair: Pair, options: JudgeOptions) -> Judgement:
    """The teacher's verdict on one pair, from the given modalities of the video, cut to the budgets and to what fits.

    The label is the word of the teacher's first reply. The margin comes from the first rung of the teacher's ladder
    that gives one, and may disagree in sign with a sampled label: both are kept as they are. Where no rung does, the
    judgement is label-only.

    Where the teacher's ladder has a prior, it is asked for it first. A pair whose prior is at most
    ``no_rationale_below`` nats with certainty is judged no by it alone, and the teacher is not asked to explain; but
    never a query's positive.

    Raises:
        UnparsableReply: the reply says neither yes nor no, or was refused or cut off.
        TeacherFailed: there is no reply, or none yet to a further request.
    """
    query, video = pair.query, pair.video
    seen = only(video.evidence, options.modalities)

    def render(budgets: EvidenceBudgets) -> Prompt:
        return judge_prompt(video.evidence, options.modalities, video.video_id, query.text, budgets, options.template)

    def ask(prompt: Prompt, cut: tuple[EvidenceCut, ...]) -> Judgement:
        request = TeacherRequest(
            task="judge",
            prompt=prompt,
            evidence=seen,
            query=neutralise(query.text),
            seed=seed_of(options.seed, query.query_id, video.video_id),
            subject=" ".join(filter(None, (options.member, query.query_id, video.video_id))),
            confidence=first_source(teacher),
        )
        try:
            prior = prior_of(teacher, request)
        except Deferred:
            if options.no_rationale_below is None or pair.is_positive:  # both belong into one plan, and into one batch
                with suppress(Deferred):
                    teacher.reply(request)
            raise
        judgement = partial(
            Judgement,
            query_id=query.query_id,
            video_id=video.video_id,
            is_positive=pair.is_positive,
            teacher=stamp,
            prompt_sha256=prompt.sha256,
            rank=pair.candidate.rank if pair.candidate else None,
            score=pair.candidate.score if pair.candidate else None,
            delta_prior=prior.margin.delta if prior else None,
            evidence_cut=cut,
            runs=pair.runs,
        )
        if prior and not pair.is_positive and _at_most(prior.margin, options.no_rationale_below):
            said = visible(prior.said, UNREADABLE)
            return judgement(label="no", rationale="", margin=prior.margin, confidence_source="prior", reply=said)
        reply = teacher.reply(request)
        verdict = parse_verdict(answer_of(reply), options.template)
        source, margin = confidence_of(Judged(teacher, request, reply, verdict.label, options.template))
        return judgement(
            label=verdict.label,
            rationale=verdict.rationale,
            margin=margin,
            confidence_source=source,
            reply=visible(reply.text, UNREADABLE),
        )

    return ask_fitting(teacher, video.evidence, options.modalities, options.budgets, render, ask)


def judgement_or_loss(teacher: RecordedTeacher, pair: Pair, options: JudgeOptions, step: str) -> Judgement | Loss:
    """See ``judge_pair``; where there is no judgement, the pair's loss at this step of the judge's stage."""
    about = {"video_id": pair.video.video_id, "query_id": pair.query.query_id}
    try:
        if set(options.modalities).isdisjoint(pair.video.evidence.present):
            # Asked about nothing, a teacher says no with confidence: that would be a guessed label.
            raise UnparsableReply("no evidence", f"the video has no {' or '.join(options.modalities)}")
        return judge_pair(teacher, teacher.stamp, pair, options)
    except UnparsableReply as error:
        return Loss("rejected", "judge", step, error.reason, error.detail, **about)
    except TeacherFailed as error:
        return Loss("failed", "judge", step, type(error).__name__, str(error), **about, uri=pair.video.uri)
    except Deferred as deferred:
        return Loss("deferred", "judge", step, deferred.reason, "", **about)


def opinion_of(judgement: Judgement, member: str) -> Opinion:
    """What a judgement says of its pair, as that of a member of the panel."""
    return Opinion(
        judge=member,
        label=judgement.label,
        rationale=judgement.rationale,
        margin=judgement.margin,
        confidence_source=judgement.confidence_source,
        teacher=judgement.teacher,
        reply=judgement.reply,
        prompt_sha256=judgement.prompt_sha256,
        delta_prior=judgement.delta_prior,
        evidence_cut=judgement.evidence_cut,
    )


def _at_most(margin: Margin, bound: float | None) -> bool:
    return bound is not None and margin.hi <= bound


@dataclass
class JudgePairs(beam.PTransform):
    """Pair -> Judgement. Every pair is accounted for once: what is not judged goes to "losses" with both its ids.

    Its video has nothing to judge by ("no evidence") or the reply cannot be read, there is no reply, or it is left for
    a later run. The main output is "judgements"; a pair of which a panel is to be asked goes to "doubtful" as well; and
    WORK.
    """

    teacher: TeacherEngine
    journal: Journal
    options: JudgeOptions = JudgeOptions()

    def expand(self, pairs: beam.PCollection[Pair]) -> beam.pvalue.DoOutputsTuple:
        teacher = RecordedTeacher(self.teacher, self.journal, "panel" if self.options.member else "")
        judge = recorded_map(self.journal, self.teacher, _judge, teacher, self.options)
        return pairs | "Judge" >> judge.with_outputs(LOSSES, WORK, DOUBTFUL, main="judgements")


def _judge(
    pair: Pair, teacher: RecordedTeacher, options: JudgeOptions
) -> Iterator[Judgement | beam.pvalue.TaggedOutput]:
    found = judgement_or_loss(teacher, pair, options, options.member or "judge")
    if isinstance(found, Loss):
        advance("panel" if options.member else "judge", found.kind)
        yield lost(found)
        return
    yield found
    if options.panel and options.panel.asks_about(found):
        yield beam.pvalue.TaggedOutput(DOUBTFUL, pair)
