"""Mine: the first stage ranks candidates for every query, and queries it cannot place are dropped."""

from __future__ import annotations

from dataclasses import dataclass

import apache_beam as beam

from pipeline.config import Engines, MineConfig
from pipeline.stage import Account
from pipeline.synthesize import query_order
from schemas.account import Rejection
from schemas.query import Query
from transforms.filter_rankings import FilterRankings
from transforms.join import JoinVideos
from transforms.progress import Advance
from transforms.retrieve import RetrieveCandidates


@dataclass
class Mine(beam.PTransform):
    """(Query, Video with frames) -> {"ranked": Ranking of every query, "rankings": those that passed the filters}."""

    config: MineConfig
    engines: Engines
    account: Account

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> dict[str, beam.PCollection]:
        queries, corpus = inputs
        config = self.config
        known = (queries, corpus) | "Known videos" >> JoinVideos(order=query_order)
        orphans = known.orphans | "Unknown video" >> beam.Map(_unknown_video)
        present = known.joined | "Query" >> beam.Keys()
        self.account.step("mine", "select", queries, present, rejections=orphans)

        ranked = (present | "Due" >> Advance("retrieve", "in"), corpus) | "Retrieve" >> RetrieveCandidates(
            self.engines.first_stage, config.retrievable_at, config.modalities
        )
        filtered = ranked | "Done" >> Advance("retrieve", "done") | "Filter" >> FilterRankings(config.ambiguity_ratio)
        self.account.step("mine", "filter", ranked, filtered.rankings, rejections=filtered.rejections)
        return {"ranked": ranked, "rankings": filtered.rankings}


def _unknown_video(query: Query) -> Rejection:
    detail = "no video of this id has frames in this run"
    return Rejection("mine", "select", "unknown video", detail, query.video_id, query.query_id)
