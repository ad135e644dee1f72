"""Filters of other distributions: which written queries they object to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import apache_beam as beam

from schemas.losses import Loss
from schemas.query import Query
from schemas.video import Video
from schemas.visible import one_line
from transforms.ledger import LOSSES, lost
from transforms.protocols.engine import loaded
from transforms.protocols.query_filter import QueryFilterEngine

STEP = "own filters"


class FilterFailed(RuntimeError):
    """A filter that raised an error, or said what is no objection."""


def first_objection(query: Query, video: Video, filters: Mapping[str, QueryFilterEngine]) -> tuple[str, str] | None:
    """The (name, objection) of the first filter that has one, or None where all keep ``query``.

    Raises:
        FilterFailed: with the filter and the query.
    """
    for name, engine in filters.items():
        about = f"synthesize.own_filters.{name} ({engine.stamp().version}), query {query.query_id}"
        try:
            said = loaded(engine).objection(query, video.evidence)
        except Exception as error:  # whatever a stranger's filter raises
            raise FilterFailed(f"{about}: {type(error).__name__}: {error}") from error
        if said is not None:
            if not isinstance(said, str):
                raise FilterFailed(f"{about}: an objection is a text or None, got {said!r}")
            return name, one_line(said)
    return None


@dataclass
class AskOwnFilters(beam.PTransform):
    """(Query, Video) -> Query; those that a filter objects to go to the tag "losses", its name being the reason."""

    filters: Mapping[str, QueryFilterEngine]

    def expand(self, pairs: beam.PCollection[tuple[Query, Video]]) -> beam.pvalue.DoOutputsTuple:
        return pairs | "Ask" >> beam.FlatMap(_filter, filters=self.filters).with_outputs(LOSSES, main="queries")


def _filter(
    pair: tuple[Query, Video], filters: Mapping[str, QueryFilterEngine]
) -> Iterator[Query | beam.pvalue.TaggedOutput]:
    query, video = pair
    found = first_objection(query, video, filters)
    if found is None:
        yield query
    else:
        yield lost(Loss("rejected", "synthesize", STEP, *found, query.video_id, query.query_id))
