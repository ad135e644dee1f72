"""Queries that people wrote: read with their qrels, and given a positive among the videos that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.stage import LedgerBuilder
from schemas.losses import Loss
from schemas.query import Query, is_written_id
from schemas.visible import one_line
from transforms.ledger import LOSSES, lost
from transforms.storage.trec import read_qrels, read_queries


@dataclass(frozen=True, slots=True)
class HumanQuery:
    """A query and the grade, above zero, of every video that its qrels call relevant; there may be none."""

    query_id: str
    text: str
    grades: tuple[tuple[str, int], ...]


def read_human_queries(queries_path: str, qrels_path: str) -> tuple[HumanQuery, ...]:
    """Queries (``id<TAB>text``) with TREC qrels; queries of other qrels lines are ignored.

    Raises:
        TrecError, OSError: a file or line that cannot be read.
        ValueError: not one query has a relevant video, two queries have the same text, or an id is one
            of ours.
    """
    texts, qrels = read_queries(queries_path), read_qrels(qrels_path)
    queries = []
    first: dict[str, str] = {}
    for query_id, written in texts.items():
        if is_written_id(query_id):
            raise ValueError(
                f"{queries_path}: {query_id!r} is an id of the form that hardquery gives to queries it writes, and "
                f"an export has; give people's queries other ids, in both files: sed -i 's/^q-/people-/' "
                f"{queries_path} {qrels_path}"
            )
        text = one_line(written)
        if not text:
            raise ValueError(f"{queries_path}: query {query_id!r} has no visible text")
        same = first.setdefault(text.casefold(), query_id)
        if same != query_id:
            raise ValueError(f"{queries_path}: queries {same!r} and {query_id!r} have the same text; merge their qrels")
        grades = tuple((video_id, grade) for video_id, grade in sorted(qrels.get(query_id, {}).items()) if grade > 0)
        queries.append(HumanQuery(query_id, text, grades))
    if not any(query.grades for query in queries):
        raise ValueError(f"{qrels_path} has no relevant video for any query of {queries_path}; do their ids agree?")
    return tuple(queries)


def with_positive(human: HumanQuery, kept: Mapping[str, str], present: Mapping[str, Any]) -> Query:
    """The query for its most relevant video that is present, ties by id; the others are its other relevant videos.

    ``kept`` names, for every dropped copy of a file, the video that was kept in its place. Where no relevant video is
    present the most relevant one is taken all the same, and mining drops the query for it.
    """
    grades: dict[str, int] = {}
    for listed, grade in human.grades:
        video_id = kept.get(listed, listed)
        grades[video_id] = max(grade, grades.get(video_id, 0))
    positive = min(grades, key=lambda video_id: (video_id not in present, -grades[video_id], video_id))
    others = tuple(sorted(video_id for video_id in grades if video_id != positive))
    graded = tuple(sorted(grades.items()))
    return Query(human.query_id, positive, human.text, "human", also_relevant=others, grades=graded)


@dataclass
class PlaceHumanQueries(beam.PTransform):
    """(Video with frames, (dropped id, kept id)) -> Query, one for each of ``queries`` that has a relevant video."""

    queries: tuple[HumanQuery, ...]
    ledger: LedgerBuilder

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.PCollection:
        videos, aliases = inputs
        present = videos | "Present" >> beam.Map(lambda video: (video.video_id, True))
        given = videos.pipeline | "Queries" >> beam.Create(self.queries, reshuffle=False)
        placed = given | "Place" >> beam.FlatMap(
            _place, beam.pvalue.AsDict(aliases), beam.pvalue.AsDict(present)
        ).with_outputs(LOSSES, main="queries")
        if self.queries:
            self.ledger.step("synthesize", "people", given, placed.queries, placed.losses)
        return placed.queries


def _place(human: HumanQuery, kept: Mapping[str, str], present: Mapping[str, Any]) -> Iterator[Any]:
    if human.grades:
        yield with_positive(human, kept, present)
    else:
        detail = f"its qrels name none: {human.text}"
        yield lost(Loss("rejected", "synthesize", "people", "no relevant video", detail, query_id=human.query_id))
