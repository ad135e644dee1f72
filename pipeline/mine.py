"""Mine: the first stage ranks candidates for every query, and queries it cannot place are dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.config import MineConfig
from pipeline.engines import Engines
from pipeline.stage import Account
from pipeline.synthesize import query_order
from schemas.account import Deferral, Rejection
from schemas.query import Query
from transforms.join import JoinVideos
from transforms.mine.filter_rankings import FilterRankings
from transforms.mine.retrieve import RetrieveCandidates
from transforms.progress import Advance


@dataclass
class Mine(beam.PTransform):
    """(Query, Video with frames, Deferral of videos) -> {"ranked": Ranking of every query, "rankings": those kept}.

    A query by people waits for its video, where that is deferred.
    """

    config: MineConfig
    engines: Engines
    account: Account

    def expand(
        self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]
    ) -> dict[str, beam.PCollection]:
        queries, corpus, deferred = inputs
        config = self.config
        known = (queries, corpus) | "Known videos" >> JoinVideos(order=query_order)
        waiting = deferred | "Waiting" >> beam.Map(lambda video: (video.video_id, video.reason))
        orphans = known.orphans | "Without video" >> beam.FlatMap(
            _without_video, beam.pvalue.AsDict(waiting)
        ).with_outputs("deferred", main="rejections")
        present = known.joined | "Query" >> beam.Keys()
        self.account.step("mine", "select", queries, present, rejections=orphans.rejections, deferred=orphans.deferred)

        ranked = (present | "Due" >> Advance("retrieve", "in"), corpus) | "Retrieve" >> RetrieveCandidates(
            self.engines.first_stage, config.retrievable_at, config.modalities
        )
        filtered = ranked | "Done" >> Advance("retrieve", "done") | "Filter" >> FilterRankings(config.ambiguity_ratio)
        self.account.step("mine", "filter", ranked, filtered.rankings, rejections=filtered.rejections)
        return {"ranked": ranked, "rankings": filtered.rankings}


def _without_video(query: Query, waiting: Mapping[str, str]) -> Iterator[Any]:
    if query.video_id in waiting:
        deferral = Deferral("mine", "select", waiting[query.video_id], query.video_id, query.query_id)
        yield beam.pvalue.TaggedOutput("deferred", deferral)
    else:
        detail = "no video of this id has frames in this run"
        yield Rejection("mine", "select", "unknown video", detail, query.video_id, query.query_id)
