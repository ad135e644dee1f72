"""What is trained on: query groups and captions, as the shards of an output hold them."""

from __future__ import annotations

import sys
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from schemas.check import read_plain
from schemas.example import Split
from schemas.query import Label
from trainer.data.shards import DataError, Shards

_CANDIDATE = "candidates.list.element"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate of a query: label 1 for a positive, else 0; the teacher's margin (nats), where it is known.

    ``censored`` names the answer whose probability the teacher's server did not report: with "yes", the true margin is
    at most ``delta``; with "no", at least.
    """

    video_id: str
    label: int
    delta: float | None = None
    p_yes: float | None = None
    censored: Label | None = None


@dataclass(frozen=True, slots=True)
class QueryExample:
    """A query and its candidates: the video that it was written for, other positives, negatives."""

    query_id: str
    query: str
    candidates: tuple[Candidate, ...]

    @property
    def positive(self) -> Candidate:
        """The video that the query was written for."""
        return self.candidates[0]

    @property
    def positives(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if candidate.label)

    @property
    def negatives(self) -> tuple[Candidate, ...]:
        return tuple(candidate for candidate in self.candidates if not candidate.label)

    @property
    def queries(self) -> tuple[str, ...]:
        """The query of each pair, which is the same."""
        return (self.query,) * len(self.candidates)

    @property
    def video_ids(self) -> tuple[str, ...]:
        return tuple(candidate.video_id for candidate in self.candidates)

    def with_videos(self, video_ids: tuple[str, ...]) -> QueryExample:
        """The same query with those of its candidates, in the order given."""
        by_id = {candidate.video_id: candidate for candidate in self.candidates}
        return QueryExample(self.query_id, self.query, tuple(by_id[video_id] for video_id in video_ids))


@dataclass(frozen=True, slots=True)
class QueryCandidate:
    """A query of an example of one video: label 1 for the one that the video answers; the rest is as in Candidate."""

    query_id: str
    query: str
    label: int
    delta: float | None = None
    p_yes: float | None = None
    censored: Label | None = None


@dataclass(frozen=True, slots=True)
class VideoExample:
    """A video and queries, the one that it answers first; ``query_id`` is that of the example of this query."""

    query_id: str
    video_id: str
    candidates: tuple[QueryCandidate, ...]

    @property
    def negatives(self) -> tuple[QueryCandidate, ...]:
        return self.candidates[1:]

    @property
    def queries(self) -> tuple[str, ...]:
        """The query of each pair."""
        return tuple(candidate.query for candidate in self.candidates)

    @property
    def video_ids(self) -> tuple[str, ...]:
        """The video of each pair, which is the same."""
        return (self.video_id,) * len(self.candidates)

    def with_queries(self, query_ids: tuple[str, ...]) -> VideoExample:
        """The same video with those of its candidates, in the order given."""
        by_id = {candidate.query_id: candidate for candidate in self.candidates}
        return VideoExample(self.query_id, self.video_id, tuple(by_id[query_id] for query_id in query_ids))


@dataclass(frozen=True, slots=True)
class CaptionExample:
    """A video and the caption that the model is to write."""

    video_id: str
    caption: str

    @property
    def video_ids(self) -> tuple[str, ...]:
        return (self.video_id,)


Example = TypeVar("Example", QueryExample, VideoExample, CaptionExample)


class MissingVideos(DataError):
    """More videos than allowed have no frames."""


def read_queries(shards: Shards, split: Split) -> list[QueryExample]:
    """All query groups of a split.

    Raises:
        DataError: a group is not of positives, at least one, and then negatives, at least one.
    """
    columns = ["query_id", "query", *(f"{_CANDIDATE}.{name}" for name in Candidate.__dataclass_fields__)]
    examples = [_query_example(row) for row in shards.rows("ranking", split, columns)]
    for example in examples:
        labels = [candidate.label for candidate in example.candidates]
        if labels != sorted(labels, reverse=True) or {*labels} != {0, 1}:
            raise DataError(f"{shards.root}: query {example.query_id}: expected positives, then negatives: {labels}")
    return examples


def _query_example(row: Mapping[str, Any]) -> QueryExample:
    for candidate in row["candidates"]:  # ids by the million, of few videos
        candidate["video_id"] = sys.intern(candidate["video_id"])
    return read_plain(row, QueryExample)


def read_by_video(shards: Shards, split: Split) -> list[VideoExample]:
    """All groups of one video of a split; none where the output has no such table.

    Raises:
        DataError: a group has not one true query, as its first candidate, and at least one negative.
    """
    columns = ["query_id", "video_id", *(f"{_CANDIDATE}.{name}" for name in QueryCandidate.__dataclass_fields__)]
    examples = [read_plain(row, VideoExample) for row in shards.rows("ranking_by_video", split, columns)]
    for example in examples:
        labels = [candidate.label for candidate in example.candidates]
        if labels[:1] != [1] or sum(labels) != 1 or len(labels) < 2:
            where = f"{shards.root}: video {example.video_id} of query {example.query_id}"
            raise DataError(f"{where}: expected the true query, then negatives: {labels}")
    return examples


def read_captions(shards: Shards, split: Split) -> list[CaptionExample]:
    """All captions of a split."""
    rows = shards.rows("perception", split, ["video_id", "caption"])
    return [read_plain(row, CaptionExample) for row in rows]


def with_frames(splits: Sequence[Sequence[Example]], clips: Container[str], allowed: int) -> tuple[list[Example], ...]:
    """The examples of each split all of whose videos have frames.

    Raises:
        MissingVideos: more than ``allowed`` of the videos that they name have none, in all splits together.
    """
    named = (video_id for examples in splits for example in examples for video_id in example.video_ids)
    missing = {video_id: None for video_id in named if video_id not in clips}
    if len(missing) > allowed:
        some = ", ".join(list(missing)[:3]) + (", …" if len(missing) > 3 else "")
        raise MissingVideos(
            f"{len(missing)} videos of the examples have no frames ({some}), and missing_videos allows {allowed}; "
            f"run the recipe with emit.frames, or allow more: their groups are then left out"
        )
    return tuple([e for e in examples if missing.keys().isdisjoint(e.video_ids)] for examples in splits)
