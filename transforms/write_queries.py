"""Query writing: the teacher reads one variant of a video's evidence and writes queries that the video answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from prompts.evidence import DEFAULT_BUDGETS, EvidenceBudgets, only
from prompts.reply import UnparsableReply, excerpt
from prompts.template import Template
from prompts.write_queries import Draft, parse_queries, queries_prompt
from schemas.account import Deferral, Failure, Rejection
from schemas.fingerprint import fingerprint
from schemas.query import VARIANTS, Query, Variant
from schemas.video import EngineStamp, Evidence, Modality, Video
from schemas.visible import UNREADABLE, visible
from transforms.budget import Deferred
from transforms.engines.protocols import Teacher, TeacherEngine, TeacherFailed, TeacherReply, TeacherRequest
from transforms.journal import Journal
from transforms.progress import advance
from transforms.recorded_teacher import RecordedTeacher
from transforms.window import flat_map

REJECTIONS, FAILURES, DEFERRED, REPLIES = "rejections", "failures", "deferred", "replies"


def shown_modalities(evidence: Evidence, variant: Variant) -> tuple[Modality, ...]:
    """The modalities that a variant shows the teacher; empty where there is nothing to write from.

    "all" is a variant of its own only where at least two modalities have text.
    """
    if variant == "all":
        return evidence.present if len(evidence.present) >= 2 else ()
    return tuple(modality for modality in evidence.present if modality == variant)


def seed_of(seed: int, *parts: str) -> int:
    """A seed in [0, 2^31) for one request, from the recipe's seed and what the request is about."""
    return int(fingerprint([seed, *parts], length=8), 16) % 2**31


def answer_of(reply: TeacherReply) -> str:
    """The text of a reply that is a whole answer. Raises ``UnparsableReply``: "refused" or "truncated"."""
    if reply.refused:
        raise UnparsableReply("refused", excerpt(reply.text))
    if reply.truncated:
        raise UnparsableReply("truncated", "the reply was stopped at the token limit")
    return reply.text


def write_queries(
    teacher: Teacher,
    stamp: EngineStamp,
    video: Video,
    variant: Variant,
    count: int,
    seed: int = 0,
    budgets: EvidenceBudgets = DEFAULT_BUDGETS,
    template: Template | None = None,
) -> list[Query]:
    """At most ``count`` queries for which ``video`` is the answer, in the order of the teacher's reply.

    The prompt shows the modalities of ``variant`` alone. A text that a reply holds twice is one query.

    Raises:
        UnparsableReply: the reply holds no queries that can be read, or was refused or cut off.
        TeacherFailed: there is no reply.
    """
    modalities = shown_modalities(video.evidence, variant)
    prompt = queries_prompt(video.evidence, modalities, video.video_id, count, budgets, template)
    reply = teacher.reply(
        TeacherRequest(
            task="write_queries",
            prompt=prompt,
            evidence=only(video.evidence, modalities),
            count=count,
            seed=seed_of(seed, video.video_id, variant),
            subject=f"{video.video_id} {variant}",
        )
    )
    drafts: dict[str, Draft] = {}
    for draft in parse_queries(answer_of(reply), modalities):
        drafts.setdefault(draft.text, draft)
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
            reply=visible(reply.text, UNREADABLE),
            prompt_sha256=prompt.sha256,
        )
        for draft in list(drafts.values())[:count]
    ]


@dataclass(frozen=True, slots=True)
class Reply:
    """One call that was answered with queries: what the ledger counts against the calls that were not."""

    video_id: str
    variant: Variant
    queries: int


@dataclass
class WriteQueries(beam.PTransform):
    """Video -> Query, ``count`` a variant. Every (video, variant) is accounted for once, under one of four tags:

    "replies" (Reply), "rejections" (Rejection: "no evidence", or why the reply cannot be read), "failures" (Failure),
    "deferred" (Deferral). The main output is "queries".
    """

    teacher: TeacherEngine
    journal: Journal
    variants: tuple[Variant, ...] = VARIANTS
    count: int = 2
    seed: int = 0
    template: Template | None = None
    budgets: EvidenceBudgets = DEFAULT_BUDGETS

    def expand(self, videos: beam.PCollection[Video]) -> beam.pvalue.DoOutputsTuple:
        write = flat_map(
            self.teacher,
            _write,
            self.teacher,
            self.journal,
            variants=self.variants,
            count=self.count,
            seed=self.seed,
            template=self.template,
            budgets=self.budgets,
        )
        return videos | "Write" >> write.with_outputs(REJECTIONS, FAILURES, DEFERRED, REPLIES, main="queries")


def _write(
    video: Video,
    engine: TeacherEngine,
    journal: Journal,
    variants: tuple[Variant, ...],
    count: int,
    seed: int,
    template: Template | None,
    budgets: EvidenceBudgets,
) -> Iterator[Query | beam.pvalue.TaggedOutput]:
    teacher, stamp = RecordedTeacher(engine, journal), engine.stamp()
    for variant in variants:
        try:
            if not shown_modalities(video.evidence, variant):
                raise UnparsableReply("no evidence", f"the video has {', '.join(video.evidence.present) or 'none'}")
            queries = write_queries(teacher, stamp, video, variant, count, seed, budgets, template)
        except UnparsableReply as error:
            detail = f"variant {variant}: {error.detail}"
            rejection = Rejection("synthesize", "write", error.reason, detail, video_id=video.video_id)
            yield beam.pvalue.TaggedOutput(REJECTIONS, rejection)
        except TeacherFailed as error:
            message = f"variant {variant}: {error}"
            failure = Failure("synthesize", "write", type(error).__name__, message, video.uri, video.video_id)
            advance("write", "failed")
            yield beam.pvalue.TaggedOutput(FAILURES, failure)
        except Deferred as deferred:
            deferral = Deferral("synthesize", "write", deferred.reason, video.video_id)
            yield beam.pvalue.TaggedOutput(DEFERRED, deferral)
        else:
            yield from queries
            yield beam.pvalue.TaggedOutput(REPLIES, Reply(video.video_id, variant, len(queries)))
