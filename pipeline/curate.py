"""Curate: judgements become whole query groups - a positive, trusted and hard negatives - or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.stage import Account
from schemas.example import PerceptionExample, Split
from schemas.query import Judgement, Query
from schemas.video import Video
from transforms.curate import CurateExamples, CurateRules


@dataclass
class Curate(beam.PTransform):
    """(Ranking, Judgement, (video_id, split)) -> {"examples": Example, "pairs": CuratedPair of every judgement}."""

    rules: CurateRules
    account: Account

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]) -> dict[str, Any]:
        rankings, judgements, splits = inputs
        groups = (
            {
                "rankings": rankings | "Key rankings" >> beam.Map(lambda ranking: (ranking.query.query_id, ranking)),
                "judgements": judgements | "Key judgements" >> beam.Map(lambda one: (one.query_id, one)),
            }
            | "Group" >> beam.CoGroupByKey()
            | "Groups" >> beam.FlatMap(_group, beam.pvalue.AsDict(splits))
        )
        curated = groups | "Curate" >> CurateExamples(self.rules)
        self.account.step("curate", "queries", rankings, curated.examples, rejections=curated.rejections)
        dropped = curated.pairs | "Dropped" >> beam.Filter(lambda pair: not pair.kept)
        kept = curated.pairs | "Kept" >> beam.Filter(lambda pair: pair.kept)
        self.account.step("curate", "pairs", judgements, kept, left_out=dropped)
        return {"examples": curated.examples, "pairs": curated.pairs}


def _group(
    grouped: tuple[str, Mapping[str, Iterable[Any]]], splits: Mapping[str, Split]
) -> Iterator[tuple[str, tuple[Query, Split, tuple[Judgement, ...]]]]:
    query_id, group = grouped
    for ranking in group["rankings"]:
        query = ranking.query
        yield query_id, (query, splits[query.video_id], tuple(group["judgements"]))


def caption_example(video: Video, split: Split) -> PerceptionExample | None:
    """The perception example of a video, or None where it has no frames or no caption."""
    captioner = next((use.engine for use in video.engines if use.part == "caption"), None)
    if captioner is None or video.frame_pack is None or not video.evidence.caption:
        return None
    return PerceptionExample(video.video_id, split, video.evidence.caption, captioner)
