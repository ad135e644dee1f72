"""Decontamination: which queries and videos test sets hold as well, and what they share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from schemas.losses import Loss
from schemas.query import Query
from schemas.video import MODALITIES, Video
from transforms.decontaminate.test_sets import TestSet, media_of, runs_of, texts_of
from transforms.ledger import LOSSES, lost

IN_TEST_SET = "in test set"


def query_in(query: Query, test_sets: tuple[TestSet, ...]) -> str | None:
    """Which query of which test set a query is taken from, and the words they share; None where there is none."""
    for each in test_sets:
        shared = runs_of(each.queries, each.run).shared_by(query.text) if each.queries else None
        if shared:
            return f"{each.name}: query {shared.text_id}: {shared.words}"
    return None


def video_in(video: Video, test_sets: tuple[TestSet, ...]) -> str | None:
    """What of which test set a video is: a file of the same bytes, or a document of its id or words."""
    for each in test_sets:
        name = media_of(each.media).get(video.media.sha256) if each.media else None
        if name:
            return f"{each.name}: media {name}: the same bytes"
        if not each.corpus:
            continue
        if video.video_id in texts_of(each.corpus):
            return f"{each.name}: document {video.video_id}: the same id"
        for modality in MODALITIES:
            if shared := runs_of(each.corpus, each.run).shared_by(video.evidence.text(modality)):
                return f"{each.name}: document {shared.text_id}: {modality}: {shared.words}"
    return None


@dataclass
class DropTestQueries(beam.PTransform):
    """Query -> Query; those of a test set go to the tag "losses"."""

    test_sets: tuple[TestSet, ...]

    def expand(self, queries: beam.PCollection[Query]) -> Any:
        return queries | "Compare" >> beam.FlatMap(_query, self.test_sets).with_outputs(LOSSES, main="queries")


def _query(query: Query, test_sets: tuple[TestSet, ...]) -> Iterator[Any]:
    if found := query_in(query, test_sets):
        about = (query.video_id, query.query_id)
        yield lost(Loss("rejected", "synthesize", "decontaminate", IN_TEST_SET, found, *about))
    else:
        yield query
