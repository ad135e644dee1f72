"""What is trained on: query groups and captions, as the shards of an output hold them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.example import Split
from schemas.query import Label
from trainer.data.columns import Example, Examples
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


class MissingVideos(DataError):
    """More videos than allowed have no frames."""


def read_queries(shards: Shards, split: Split) -> Examples[QueryExample]:
    """All query groups of a split.

    Raises:
        DataError: a group is not of positives, at least one, and then negatives, at least one; or several are of one
            query.
    """
    columns = ["query_id", "query", *(f"{_CANDIDATE}.{name}" for name in Candidate.__dataclass_fields__)]
    examples = _read(shards, "ranking", split, columns, QueryExample)
    if (wrong := _first_wrong(examples, most_positives=None)) is not None:
        labels = [candidate.label for candidate in wrong.candidates]
        raise DataError(f"{shards.root}: query {wrong.query_id}: expected positives, then negatives: {labels}")
    return examples


def read_by_video(shards: Shards, split: Split) -> Examples[VideoExample]:
    """All groups of one video of a split; none where the output has no such table.

    Raises:
        DataError: a group has not one true query, as its first candidate, and at least one negative; or several are of
            one query.
    """
    columns = ["query_id", "video_id", *(f"{_CANDIDATE}.{name}" for name in QueryCandidate.__dataclass_fields__)]
    examples = _read(shards, "ranking_by_video", split, columns, VideoExample)
    if (wrong := _first_wrong(examples, most_positives=1)) is not None:
        labels = [candidate.label for candidate in wrong.candidates]
        where = f"{shards.root}: video {wrong.video_id} of query {wrong.query_id}"
        raise DataError(f"{where}: expected the true query, then negatives: {labels}")
    return examples


def read_captions(shards: Shards, split: Split) -> Examples[CaptionExample]:
    """All captions of a split.

    Raises:
        DataError: a video has several.
    """
    return _read(shards, "perception", split, ["video_id", "caption"], CaptionExample)


def _read(shards: Shards, table: str, split: Split, columns: Sequence[str], kind: type[Example]) -> Examples[Example]:
    found = [shards.columns(path, columns) for path in shards.paths(table, split)]
    pa.default_memory_pool().release_unused()
    examples = Examples(kind, pa.concat_tables(found)) if found else Examples.of(kind, [])
    if (repeated := examples.repeated()) is not None:
        raise DataError(
            f"{shards.root}: {table}, {split}: several rows of {examples.key_name} {repeated}, expected one"
        )
    return examples


def _first_wrong(examples: Examples[Example], most_positives: int | None) -> Example | None:
    """The first whose labels are not ones, up to so many, and then zeros, at least one of each."""
    bounds, found = examples.candidates("label")
    labels: npt.NDArray[np.int64] = np.asarray(found).astype(np.int64)
    sizes, rows = np.diff(bounds), np.arange(len(examples))
    of = np.repeat(rows, sizes)  # the example of each candidate
    positives = np.bincount(of, labels == 1, len(rows))
    place = np.arange(len(of)) - bounds[of]
    wrong = np.bincount(of, labels != (place < positives[of]), len(rows)) > 0
    wrong |= (positives < 1) | (positives >= sizes) | (positives > (most_positives or np.inf))
    return examples[int(wrong.argmax())] if wrong.any() else None


def with_frames(
    splits: Sequence[Examples[Example]], clips: Container[str], allowed: int
) -> tuple[Examples[Example], ...]:
    """The examples of each split all of whose videos have frames.

    Raises:
        MissingVideos: more than ``allowed`` of the videos that they name have none, in all splits together.
    """
    chunks = [ids for examples in splits for ids in examples.video_ids.chunks]
    named = pc.unique(pa.chunked_array(chunks, pa.string())).to_pylist()
    missing = [video_id for video_id in named if video_id not in clips]
    if len(missing) > allowed:
        some = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise MissingVideos(
            f"{len(missing)} videos of the examples have no frames ({some}), and missing_videos allows {allowed}; "
            f"run the recipe with emit.frames, or allow more: their groups are then left out"
        )
    return tuple(examples.without(pa.array(missing, pa.string())) for examples in splits)
