"""Recall: in the place of mining, which needs the whole corpus, what an earlier run found for the queries of a part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import apache_beam as beam

from pipeline.engines import Engines
from pipeline.planning.sampled.recalled import Recalled, Told
from pipeline.stage import LedgerBuilder, merge
from schemas.losses import Loss
from schemas.query import Candidates, Query
from transforms.journal.counts import add
from transforms.journal.journal import Journal
from transforms.ledger import LOSSES, lost
from transforms.mine.choose_pairs import Assignment
from transforms.mine.embed import EmbedQueries, EmbedVideos, the_query
from transforms.mine.retrieve import Ranking
from transforms.storage.cache import Cache
from transforms.workers.recorded import WORK

NOT_SEARCHED = "not searched"  # why a query waits of which an earlier run does not tell
RECALL, MORE = "recall", "more"  # what is counted: candidates that are not told


@dataclass
class Recall(beam.PTransform):
    """As ``Mine``, and "videos": what the judge is shown of candidates that are not in this part of the corpus.

    Its videos and queries are embedded, where a first stage would; nothing is searched. A query that is not told waits.
    """

    recalled: Recalled
    engines: Engines
    cache: Cache
    journal: Journal
    ledger: LedgerBuilder

    def expand(self, inputs: tuple[beam.PCollection, ...]) -> dict[str, beam.PCollection]:
        queries, corpus = inputs[:2]
        found, losses = queries, []
        for stage in self.engines.first_stages:
            if stage.search is not None:
                fields = stage.weights.by_field() if stage.weights else {}
                embed = EmbedVideos(stage.name, stage.engine, self.cache, self.journal, fields)
                vectors = corpus | f"Embed videos {stage.name}" >> embed
                asked = found | f"Embed queries {stage.name}" >> EmbedQueries(stage.engine, self.journal, the_query)
                found = asked.embedded | f"Embedded {stage.name}" >> beam.Map(itemgetter(0))
                self.ledger.works += [vectors[WORK], asked[WORK]]
                self.ledger.step("mine", f"embed {stage.name}", corpus, vectors.embedded, vectors[LOSSES])
                losses.append(asked[LOSSES])
        told = found | "Recall" >> beam.FlatMap(_recall, self.recalled.queries).with_outputs(LOSSES, main="told")
        all_losses = merge([*losses, told[LOSSES]], "Not told", queries.pipeline)
        self.ledger.step("mine", "retrieve", queries, told.told, all_losses)
        filtered = told.told | "Filter" >> beam.FlatMapTuple(_filter).with_outputs(LOSSES, "pairs", main="rankings")
        self.ledger.step("mine", "filter", told.told, filtered.rankings, filtered[LOSSES])
        elsewhere = queries.pipeline | "Told" >> beam.Create([replace(self.recalled, queries={})], reshuffle=False)
        return {
            "ranked": filtered.rankings,
            "rankings": filtered.rankings,
            "pairs": filtered.pairs,
            "videos": elsewhere | "Their videos" >> beam.FlatMap(Recalled.videos),
        }


def _recall(query: Query, told: Mapping[str, Told]) -> Iterator[Any]:
    found = told.get(query.query_id)
    if found is None or (found.text, found.video_id) != (query.text, query.video_id):
        yield lost(Loss("deferred", "mine", "retrieve", NOT_SEARCHED, "", query.video_id, query.query_id))
    else:
        yield query, found


def _filter(query: Query, told: Told) -> Iterator[Any]:
    if told.dropped:
        yield lost(Loss("rejected", "mine", "filter", told.dropped, "", query.video_id, query.query_id))
        return
    add(RECALL, MORE, told.more)
    yield Ranking(query, Candidates(), None)
    for rank, pair in enumerate(told.pairs, start=1):
        assignment: Assignment = (
            *(pair.video_id, query.query_id, query.text, pair.is_own),
            *(pair.rank or rank, pair.score, ()),
        )
        yield beam.pvalue.TaggedOutput("pairs", assignment)
