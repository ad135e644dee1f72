"""Mine: the first stage ranks candidates for every query, and queries it cannot place are dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.config import MineConfig
from pipeline.engines import Engines
from pipeline.stage import LedgerBuilder
from schemas.losses import Loss
from schemas.query import Query
from transforms.ledger import LOSSES, lost
from transforms.mine.filter_rankings import FilterRankings
from transforms.mine.retrieve import RetrieveCandidates
from transforms.progress import Advance

PRESENT = ""  # the reason why a video waits that does not


@dataclass
class Mine(beam.PTransform):
    """(Query, Video with frames, Loss of videos that wait) -> {"ranked": Ranking of every query, "rankings": kept}.

    A query by people waits for its video, where that is deferred.
    """

    config: MineConfig
    engines: Engines
    ledger: LedgerBuilder

    def expand(
        self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]
    ) -> dict[str, beam.PCollection]:
        queries, corpus, deferred = inputs
        config = self.config
        known = (
            corpus | "Present" >> beam.Map(lambda video: (video.video_id, PRESENT)),
            deferred | "Waiting" >> beam.Map(lambda video: (video.video_id, video.reason)),
        ) | "Known videos" >> beam.Flatten()
        selected = queries | "Select" >> beam.FlatMap(_select, beam.pvalue.AsDict(known)).with_outputs(
            LOSSES, main="queries"
        )
        self.ledger.step("mine", "select", queries, selected.queries, selected.losses)

        due = selected.queries | "Due" >> Advance("retrieve", "in")
        ranked = (due, corpus) | "Retrieve" >> RetrieveCandidates(
            self.engines.first_stage, config.retrievable_at, config.modalities
        )
        filtered = ranked | "Done" >> Advance("retrieve", "done") | "Filter" >> FilterRankings(config.ambiguity_ratio)
        self.ledger.step("mine", "filter", ranked, filtered.rankings, filtered.losses)
        return {"ranked": ranked, "rankings": filtered.rankings}


def _select(query: Query, known: Mapping[str, str]) -> Iterator[Any]:
    """A query whose video is there; ``known`` says by id why a video is not, or that it is."""
    why = known.get(query.video_id)
    if why == PRESENT:
        yield query
    elif why is not None:
        yield lost(Loss("deferred", "mine", "select", why, "", query.video_id, query.query_id))
    else:
        detail = "no video of this id has frames in this run"
        yield lost(Loss("rejected", "mine", "select", "unknown video", detail, query.video_id, query.query_id))
