"""Query writing: the teacher reads one variant of a video's evidence and writes queries that the video answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import apache_beam as beam

from prompts.evidence import DEFAULT_BUDGETS, EvidenceBudgets, only
from prompts.languages import in_language
from prompts.reply import UnparsableReply
from prompts.template import Prompt, Template, load_template
from prompts.write_queries import Draft, ask_again, parse_queries, queries_prompt, quotable
from schemas.losses import Loss
from schemas.query import PAPERS_VARIANTS, WITH_PARTS, EvidenceCut, Query, Variant
from schemas.video import EngineStamp, Evidence, Modality, Video
from schemas.visible import UNREADABLE, visible
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.ledger import LOSSES, lost
from transforms.progress import advance
from transforms.protocols.teacher import Teacher, TeacherEngine, TeacherFailed, TeacherReply, TeacherRequest
from transforms.synthesize.difficulty import difficulty_of
from transforms.teacher.asking import answer_of, seed_of
from transforms.teacher.fitting import ask_fitting
from transforms.teacher.recorded_teacher import RecordedTeacher
from transforms.workers.recorded import WORK, recorded_map

REPLIES = "replies"

RETRIES = 2
"""So many times a teacher is asked again whose reply cannot be read."""


def shown_modalities(evidence: Evidence, variant: Variant) -> tuple[Modality, ...]:
    """The modalities that a variant shows the teacher; empty where there is nothing to write from.

    "all" is a variant of its own only where at least two modalities have text; a request or event is written from what
    there is.
    """
    if variant in WITH_PARTS:
        return evidence.present
    if variant == "all":
        return evidence.present if len(evidence.present) >= 2 else ()
    return tuple(modality for modality in evidence.present if modality == variant)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a teacher wrote in the end: the reply that could be read, and the seed and number of its request."""

    drafts: list[Draft]
    text: str
    seed: int
    attempts: int


def write_queries(
    teacher: Teacher,
    stamp: EngineStamp,
    video: Video,
    variant: Variant,
    count: int,
    seed: int = 0,
    budgets: EvidenceBudgets = DEFAULT_BUDGETS,
    template: Template | None = None,
    language: str | None = None,
) -> list[Query]:
    """At most ``count`` queries for which ``video`` is the answer, in the order of the teacher's reply.

    The prompt shows the modalities of ``variant`` alone, cut to the budgets and to what fits. The variant of that name
    gives requests, and event those, each followed by its parts. A text that a reply holds twice is one query. A reply
    that cannot be read, but a refusal, is asked for again at most ``RETRIES`` times. ``language`` is one of LANGUAGES,
    None for what the prompt says.

    Raises:
        UnparsableReply: no reply holds queries that can be read, or one was refused.
        TeacherFailed: there is no reply, or none to a further request.
    """
    asked = in_language(template or load_template(task_of(variant)), language or "en")
    modalities = shown_modalities(video.evidence, variant)
    shown = only(video.evidence, modalities)

    def render(budgets: EvidenceBudgets) -> Prompt:
        return queries_prompt(video.evidence, modalities, video.video_id, count, budgets, asked)

    def ask(prompt: Prompt, cut: tuple[EvidenceCut, ...]) -> list[Query]:
        request = TeacherRequest(
            task=task_of(variant),
            prompt=prompt,
            evidence=shown,
            count=count,
            seed=seed_of(seed, video.video_id, variant),
            subject=f"{video.video_id} {variant}",
        )
        answer = _ask(teacher, request, modalities, asked)
        drafts: dict[str, Draft] = {}
        for draft in answer.drafts:
            drafts.setdefault(draft.text, draft)
        wanted: dict[str, tuple[Draft, str | None]] = {}  # by text: what it says, and what it is part of
        for draft in list(drafts.values())[:count]:
            wanted.setdefault(draft.text, (draft, None))
            for part in parts_of(draft) if variant in WITH_PARTS else ():
                wanted.setdefault(part.text, (part, Query.id_of(video.video_id, variant, draft.text)))
        return [
            Query(
                query_id=Query.id_of(video.video_id, variant, draft.text),
                video_id=video.video_id,
                text=draft.text,
                source="teacher",
                query_type=draft.query_type,
                variant=variant,
                rationale=draft.rationale,
                modalities=draft.modalities,
                writer=stamp,
                reply=visible(answer.text, UNREADABLE),
                prompt_sha256=prompt.sha256,
                evidence_cut=cut,
                cited=draft.cited,
                difficulty=difficulty_of(draft, shown),
                seed=answer.seed,
                attempts=answer.attempts,
                part_of=part_of,
                language=language,
            )
            for draft, part_of in wanted.values()
        ]

    return ask_fitting(teacher, video.evidence, modalities, budgets, render, ask)


def language_of(video_id: str, variant: Variant, languages: tuple[str, ...]) -> str | None:
    """The language that the queries of a variant are written in: all take turns, None where there are none.

    One more language is no further call, and changes what most variants are asked for.
    """
    return languages[seed_of(0, video_id, variant, "language") % len(languages)] if languages else None


def task_of(variant: str) -> Literal["write_queries", "write_requests", "write_events"]:
    """What a teacher is asked for: also the name of the prompt."""
    if variant == "event":
        return "write_events"
    return "write_requests" if variant == "request" else "write_queries"


def parts_of(request: Draft) -> list[Draft]:
    """The parts of a request or event as drafts of their own, which rest on its rationale and on what it cites."""
    return [
        replace(request, text=part.text, query_type=part.query_type, modalities=part.modalities, rated=None, parts=())
        for part in request.parts
    ]


def _ask(teacher: Teacher, first: TeacherRequest, modalities: tuple[Modality, ...], template: Template) -> _Answer:
    request, attempt = first, 1
    while True:
        reply = teacher.reply(request)
        try:
            drafts = parse_queries(answer_of(reply), modalities, template, events=first.task == "write_events")
            seed = request.seed if reply.seed is None else reply.seed
            return _Answer(drafts, reply.text, seed, attempt)
        except UnparsableReply as error:
            if error.reason == "refused":
                raise
            if attempt > RETRIES:
                raise UnparsableReply(error.reason, f"{error.detail} ({attempt} attempts)".lstrip()) from error
            request = _again(first, reply, error, attempt)
        attempt += 1


def _again(first: TeacherRequest, reply: TeacherReply, error: UnparsableReply, attempt: int) -> TeacherRequest:
    """The same request with another seed, which quotes the reply and what is wrong with it.

    A reply that was cut off is not quoted: it would be gone on with, or be as long again.
    """
    again = replace(first, seed=seed_of(first.seed, "retry", str(attempt)), subject=f"{first.subject} retry {attempt}")
    said = "" if error.reason == "truncated" else quotable(reply.text)
    return replace(again, said=said, follow_up=ask_again(error)) if said else again


@dataclass(frozen=True, slots=True)
class Reply:
    """One call that was answered with queries: what the ledger counts against the calls that were not."""

    video_id: str
    variant: Variant
    queries: int


@dataclass
class WriteQueries(beam.PTransform):
    """Video -> Query, ``count`` a variant. ``templates`` take the place of this project's own, by what they ask for.
    The ``languages`` take turns; without any, the prompt decides.

    Every (video, variant) is accounted for once: "replies" (Reply) or "losses": "no evidence", why the reply cannot be
    read, how the call failed, or why it waits. The main output is "queries"; and WORK.
    """

    teacher: TeacherEngine
    journal: Journal
    variants: tuple[Variant, ...] = PAPERS_VARIANTS
    count: int = 2
    seed: int = 0
    templates: Mapping[str, Template] = field(default_factory=dict)
    budgets: EvidenceBudgets = DEFAULT_BUDGETS
    languages: tuple[str, ...] = ()

    def expand(self, videos: beam.PCollection[Video]) -> beam.pvalue.DoOutputsTuple:
        write = recorded_map(
            self.journal,
            self.teacher,
            _write,
            self.teacher,
            self.journal,
            variants=self.variants,
            count=self.count,
            seed=self.seed,
            templates=self.templates,
            budgets=self.budgets,
            languages=self.languages,
        )
        return videos | "Write" >> write.with_outputs(LOSSES, REPLIES, WORK, main="queries")


def _write(
    video: Video,
    engine: TeacherEngine,
    journal: Journal,
    variants: tuple[Variant, ...],
    count: int,
    seed: int,
    templates: Mapping[str, Template],
    budgets: EvidenceBudgets,
    languages: tuple[str, ...] = (),
) -> Iterator[Query | beam.pvalue.TaggedOutput]:
    teacher, stamp = RecordedTeacher(engine, journal), engine.stamp()
    for variant in variants:
        try:
            if not shown_modalities(video.evidence, variant):
                raise UnparsableReply("no evidence", f"the video has {', '.join(video.evidence.present) or 'none'}")
            template = templates.get(task_of(variant))
            language = language_of(video.video_id, variant, languages)
            queries = write_queries(teacher, stamp, video, variant, count, seed, budgets, template, language)
        except UnparsableReply as error:
            detail = f"variant {variant}: {error.detail}"
            advance("write", "rejected")
            yield lost(Loss("rejected", "synthesize", "write", error.reason, detail, video.video_id))
        except TeacherFailed as error:
            message = f"variant {variant}: {error}"
            advance("write", "failed")
            name = type(error).__name__
            yield lost(Loss("failed", "synthesize", "write", name, message, video.video_id, uri=video.uri))
        except Deferred as deferred:
            advance("write", "deferred")
            yield lost(Loss("deferred", "synthesize", "write", deferred.reason, video_id=video.video_id))
        else:
            yield from queries
            yield beam.pvalue.TaggedOutput(REPLIES, Reply(video.video_id, variant, len(queries)))
