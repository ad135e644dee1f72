"""Curate: judgements become whole query groups - a positive, trusted and hard negatives - or a reason why not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.stage import Account
from schemas.example import PerceptionExample, Split
from schemas.video import Video
from transforms.curate.curate_query import DEFERRED, CuratedPair, CurateExamples, CurateRules, Group


@dataclass
class Curate(beam.PTransform):
    """(Ranking, {"judgements", "deferred"}, (video_id, split)) -> {"examples": Example, "pairs"}.

    "pairs" are a CuratedPair of every judgement. A query that has a pair still to be judged is deferred as a whole.
    """

    rules: CurateRules
    account: Account

    def expand(self, inputs: tuple[beam.PCollection, dict[str, Any], beam.PCollection]) -> dict[str, Any]:
        rankings, judged, splits = inputs
        judgements = judged["judgements"]
        groups = (
            {
                "rankings": rankings | "Key rankings" >> beam.Map(lambda ranking: (ranking.query.query_id, ranking)),
                "judgements": judgements | "Key judgements" >> beam.Map(lambda one: (one.query_id, one)),
                "deferred": judged["deferred"] | "Key deferred" >> beam.Map(lambda one: (one.query_id, one.reason)),
            }
            | "Group" >> beam.CoGroupByKey()
            | "Groups" >> beam.FlatMap(_group, beam.pvalue.AsDict(splits))
        )
        curated = groups | "Curate" >> CurateExamples(self.rules)
        self.account.step(
            "curate",
            "queries",
            rankings,
            curated.examples,
            rejections=curated.rejections,
            deferred=curated.deferred,
        )
        parted = curated.pairs | "Part" >> beam.FlatMap(_part).with_outputs("kept", "deferred", main="dropped")
        self.account.step(
            "curate", "pairs", judgements, parted.kept, left_out=parted.dropped, left_waiting=parted.deferred
        )
        return {"examples": curated.examples, "pairs": curated.pairs}


def _part(pair: CuratedPair) -> Iterator[Any]:
    """A pair under what became of it; one of a deferred query waits with it."""
    if pair.kept:
        yield beam.pvalue.TaggedOutput("kept", pair)
    elif pair.reason == DEFERRED:
        yield beam.pvalue.TaggedOutput("deferred", pair)
    else:
        yield pair


def _group(
    grouped: tuple[str, Mapping[str, Iterable[Any]]], splits: Mapping[str, Split]
) -> Iterator[tuple[str, Group]]:
    query_id, group = grouped
    for ranking in group["rankings"]:
        query = ranking.query
        deferred = min(group["deferred"], default="")
        yield query_id, Group(query, splits[query.video_id], tuple(group["judgements"]), deferred)


def caption_example(video: Video, split: Split) -> PerceptionExample | None:
    """The perception example of a video, or None where it has no frames or no caption."""
    captioner = next((use.engine for use in video.engines if use.part == "caption"), None)
    if captioner is None or video.frame_pack is None or not video.evidence.caption:
        return None
    return PerceptionExample(video.video_id, split, video.evidence.caption, captioner)
