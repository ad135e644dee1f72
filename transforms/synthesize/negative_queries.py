"""Negative queries: a writer that sees a query alone writes others that look like it and ask for something else.

Splitting writer and verifier follows DocReRank (arXiv 2505.22584): a writer that sees what the query finds writes worse
negatives. Which of them the video answers after all, ``transforms.judge.verify_negatives`` finds out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

import apache_beam as beam
import msgspec

from prompts.negative_queries import negatives_prompt, parse_negatives
from prompts.reply import UnparsableReply
from prompts.template import Template
from schemas.check import require
from schemas.configuration.section import Section
from schemas.example import Example, NegativeQueries, NegativeQuery, Rewording
from schemas.fingerprint import unit_interval
from schemas.losses import Loss
from schemas.video import MODALITIES, Evidence, Modality
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.ledger import LOSSES, lost
from transforms.progress import advance
from transforms.protocols.teacher import Teacher, TeacherEngine, TeacherFailed, TeacherRequest
from transforms.synthesize.filter_queries import Found, TextFilters, length, mentions_video, wrong_language
from transforms.synthesize.wording import wording
from transforms.teacher.asking import answer_of, seed_of
from transforms.teacher.recorded_teacher import RecordedTeacher
from transforms.text.words import words
from transforms.workers.recorded import WORK, recorded_map

_Count = Annotated[int, msgspec.Meta(ge=1)]


class NegativeQueriesConfig(Section, frozen=True):
    """Queries that look like each kept one and that its video does not answer: who writes them, and who makes sure.

    ``teacher`` sees a query alone, and writes ``queries`` that look like it; null is the one that writes queries.
    ``prompt`` is a file that takes the place of the prompt that comes with the project. ``verifier`` sees these
    ``modalities`` of the video, and says in two wordings whether it answers one; null is the one that judges. Of those
    with two noes ``kept`` are kept. A word that negatives hold and hardly any true query drops all but ``one_sided``.
    A share ``reworded`` of the true queries stands beside them in other words, which the teacher puts them in and the
    verifier says yes to twice: else it is the true query that is worded like none.
    """

    teacher: dict[str, Any] | None = None
    prompt: str | None = None
    queries: _Count = 8
    verifier: dict[str, Any] | None = None
    modalities: tuple[Modality, ...] = MODALITIES
    kept: _Count = 3
    one_sided: Annotated[int, msgspec.Meta(ge=0)] = 2
    reworded: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5

    def __post_init__(self) -> None:
        distinct = 0 < len(self.modalities) == len(set(self.modalities))
        require(distinct, "modalities must name at least one, and each only once", self.modalities)


def write_negatives(
    teacher: Teacher, query_id: str, query: str, count: int, seed: int = 0, template: Template | None = None
) -> tuple[tuple[NegativeQuery, ...], str]:
    """At most ``count`` queries that look like ``query``, in the order of the reply; and the same query in other words.

    The teacher sees nothing else. The last is "" where it gives none.

    Raises:
        UnparsableReply: the reply cannot be read.
        TeacherFailed: there is no reply.
    """
    request = TeacherRequest(
        task="negative_queries",
        prompt=negatives_prompt(query, count, template),
        evidence=Evidence(),
        query=query,
        count=count,
        seed=seed_of(seed, query_id, "negatives"),
        subject=query_id,
    )
    reply = parse_negatives(answer_of(teacher.reply(request)), template)
    drafts = reply.drafts[:count]
    found = (NegativeQuery(NegativeQuery.id_of(query_id, draft.text), draft.text, draft.edit) for draft in drafts)
    return tuple(found), reply.reworded


def reject_reason(text: str, query: str, earlier: Iterable[str], filters: TextFilters) -> Found:
    """The (reason, detail) for which ``text`` is no negative of ``query``, whatever the video; None if it may be one.

    ``earlier`` are those of the same reply that came before it. What looks like a long request may be as long as one.
    """
    if words(text) == words(query):
        return "unchanged", "it is the query itself"
    if any(words(text) == words(one) for one in earlier):
        return "written twice", "it is in the reply before"
    is_long = len(words(query)) > filters.max_words
    return (
        length(text, filters.min_words, filters.request_max_words if is_long else filters.max_words)
        or mentions_video(text)
        or wrong_language(text, filters.languages, filters.min_language_probability)
    )


def is_no_rewording(text: str, query: str, negatives: Iterable[str], filters: TextFilters) -> Found:
    """The (reason, detail) for which ``text`` cannot be ``query`` in other words; None if it may be.

    It has the same numbers, and a negation exactly if that has one.
    """
    given, other = wording(query), wording(text)
    numbers, others = ({term for term in one.telling if term[0].isdigit()} for one in (given, other))
    if numbers != others:
        return "other numbers", f"{sorted(others)} instead of {sorted(numbers)}"
    if given.negated != other.negated:
        return "negation", "one is negated, and the other is not"
    return reject_reason(text, query, negatives, filters)


@dataclass
class WriteNegatives(beam.PTransform):
    """Example -> NegativeQueries, one a call. Every example is accounted for once: what got none goes to "losses".

    The main output is "written"; and WORK.
    """

    teacher: TeacherEngine
    journal: Journal
    count: int = 8
    seed: int = 0
    template: Template | None = None
    reworded: float = 0.0

    def expand(self, examples: beam.PCollection[Example]) -> beam.pvalue.DoOutputsTuple:
        options = (self.count, self.seed, self.template, self.reworded)
        write = recorded_map(self.journal, self.teacher, _write, self.teacher, self.journal, *options)
        return examples | "Write" >> write.with_outputs(LOSSES, WORK, main="written")


def _write(
    example: Example,
    engine: TeacherEngine,
    journal: Journal,
    count: int,
    seed: int,
    template: Template | None,
    reworded: float = 0.0,
) -> Iterator[NegativeQueries | beam.pvalue.TaggedOutput]:
    about = (example.candidates[0].video_id, example.query_id)
    try:
        teacher = RecordedTeacher(engine, journal)
        found, text = write_negatives(teacher, example.query_id, example.query, count, seed, template)
        is_due = unit_interval(f"{seed}:reworded:{example.query_id}") < reworded
        yield NegativeQueries(example, engine.stamp(), found, rewording=Rewording(text) if text and is_due else None)
    except UnparsableReply as error:
        advance("negatives", "rejected")
        yield lost(Loss("rejected", "synthesize", "negatives", error.reason, error.detail, *about))
    except TeacherFailed as error:
        advance("negatives", "failed")
        yield lost(Loss("failed", "synthesize", "negatives", type(error).__name__, str(error), *about))
    except Deferred as deferred:
        advance("negatives", "deferred")
        yield lost(Loss("deferred", "synthesize", "negatives", deferred.reason, "", *about))


@dataclass
class FilterNegatives(beam.PTransform):
    """NegativeQueries -> those that may be negatives; the others go to the tag "losses"."""

    filters: TextFilters

    def expand(self, written: beam.PCollection[NegativeQueries]) -> beam.pvalue.DoOutputsTuple:
        return written | "Filter" >> beam.FlatMap(_filter, filters=self.filters).with_outputs(LOSSES, main="written")


def _filter(written: NegativeQueries, filters: TextFilters) -> Iterator[NegativeQueries | beam.pvalue.TaggedOutput]:
    kept: list[NegativeQuery] = []
    for query in written.queries:
        found = reject_reason(query.text, written.example.query, (one.text for one in kept), filters)
        if found is None:
            kept.append(query)
        else:
            reason, detail = found
            detail = f"{query.edit}: {query.text} ({detail})"
            about = (written.video_id, written.query_id)
            yield lost(Loss("rejected", "synthesize", "filter negatives", reason, detail, *about))
    rewording = written.rewording
    if rewording and (found := is_no_rewording(rewording.text, written.example.query, (q.text for q in kept), filters)):
        detail = f"{rewording.text} ({found[1]})"
        about = (written.video_id, written.query_id)
        yield lost(Loss("rejected", "synthesize", "filter rewordings", found[0], detail, *about))
        rewording = None
    yield replace(written, queries=tuple(kept), rewording=rewording)
