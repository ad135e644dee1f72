"""Bring items together with the video they are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from schemas.video import Video


def video_id_of(item: Any) -> str:
    """The ``video_id`` of any record that has one."""
    video_id: str = item.video_id
    return video_id


@dataclass
class JoinVideos(beam.PTransform):
    """(items, videos) -> (item, Video) for each item, grouped by video; items without a video on the output "orphans".

    Within a video, items keep the order of ``order`` so that what follows sees them in one order on every runner.
    """

    order: Callable[[Any], Any]
    key: Callable[[Any], str] = video_id_of

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> Any:
        items, videos = inputs
        return (
            {
                "items": items | "Key items" >> beam.Map(lambda item: (self.key(item), item)),
                "videos": videos | "Key videos" >> beam.Map(lambda video: (video.video_id, video)),
            }
            | "Join" >> beam.CoGroupByKey()
            | "Pair" >> beam.FlatMapTuple(self._pair).with_outputs("orphans", main="joined")
        )

    def _pair(self, _: str, groups: dict[str, Iterable[Any]]) -> Iterator[Any]:
        videos: list[Video] = list(groups["videos"])
        for item in sorted(groups["items"], key=self.order):
            yield (item, videos[0]) if videos else beam.pvalue.TaggedOutput("orphans", item)
