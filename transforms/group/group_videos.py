"""Groups of videos that must share a split: those of one event, and near-duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import apache_beam as beam
import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.check import require
from schemas.configuration.section import Section
from schemas.video import Video
from transforms.group.alike import Alike, alike
from transforms.group.disjoint_sets import DisjointSets
from transforms.group.frame_hashes import FrameHashes, hash_video
from transforms.group.near_duplicates import Hashed, near_duplicates
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import RecordedFailure
from transforms.progress import Advance
from transforms.protocols.embed import Embedding
from transforms.protocols.engine import Engine
from transforms.search.pooling import pooled_in_order
from transforms.search.vector_file import NotVectors, read_vectors
from transforms.storage.cache import Cache, CachedFile
from transforms.storage.cache_failed import CacheFailed
from transforms.workers.recorded import WORK, recorded_map

VectorsOf = Callable[[Video], CachedFile | None]
_NO_VECTORS: Mapping[str, NDArray[np.float32]] = MappingProxyType({})
MOST = 1000
"""No chain of near-duplicates makes a group of more videos than this."""


class GroupRules(Section, frozen=True):
    """Which videos are near-duplicates: ``max_bits`` of 64 in which their frame hashes may differ, null for none.

    Of the sample clips, copies that were compressed or made smaller differ in at most 3, those that lost their margins
    in at most 4, and different clips in more than 6 (benchmarks/README.md). ``vectors`` adds those that are alike to an
    embedder and further apart by their hashes.
    """

    max_bits: Annotated[float, msgspec.Meta(ge=0, le=16)] | None = 6.0
    vectors: Alike | None = None

    def __post_init__(self) -> None:
        require(self.vectors is None or self.max_bits is not None, "vectors stand beside max_bits", self.max_bits)


@dataclass(frozen=True, slots=True)
class Group:
    """Where a video belongs: ``near`` is the smallest id among it and its near-duplicates, direct and indirect.

    ``split_key`` is the smallest of all that must share its split, events before ids (see ``Video.split_key``).
    """

    near: str
    split_key: str


@dataclass(frozen=True, slots=True)
class Member:
    """What of a video decides its group; ``hashes`` are None where it has no pictures, or they are not known yet.

    So is ``vectors``, the file of those of its frames, where none are to be looked at.
    """

    video_id: str
    split_key: str
    duration_s: float
    hashes: FrameHashes | None
    vectors: CachedFile | None = None


def grouped(
    members: Iterable[Member],
    rules: GroupRules,
    most: int = MOST,
    vectors: Mapping[str, NDArray[np.float32]] = _NO_VECTORS,
) -> Iterator[tuple[str, Group]]:
    """The group of every video, by its id; the order of ``members`` decides nothing.

    Near-duplicates are joined nearest first, those by hashes before those by ``vectors``, and two that would make a
    group of more than ``most`` are not. An event is never parted.
    """
    videos = sorted(members, key=lambda member: member.video_id)
    places = {member.video_id: place for place, member in enumerate(videos)}
    pairs: list[tuple[str, str]] = []
    if rules.max_bits is not None:
        hashed = [Hashed(v.video_id, v.duration_s, v.hashes) for v in videos if v.hashes is not None]
        pairs = near_duplicates(hashed, rules.max_bits)
        if rules.vectors is not None:
            pairs += alike(hashed, vectors, rules.vectors)
    near, together = DisjointSets(len(videos)), DisjointSets(len(videos))
    first: dict[str, int] = {}
    for place, member in enumerate(videos):
        together.join(first.setdefault(member.split_key, place), place)
    for left, right in ((places[a], places[b]) for a, b in pairs):
        if together.find(left) == together.find(right) or together.size(left) + together.size(right) <= most:
            together.join(left, right)
            near.join(left, right)
    names, keys = _smallest(near, [v.video_id for v in videos]), _smallest(together, [v.split_key for v in videos])
    for place, member in enumerate(videos):
        yield member.video_id, Group(names[near.find(place)], keys[together.find(place)])


def _smallest(sets: DisjointSets, names: Sequence[str]) -> Mapping[int, str]:
    """The smallest name in each set, by the item that stands for it."""
    members: dict[int, list[str]] = defaultdict(list)
    for place, name in enumerate(names):
        members[sets.find(place)].append(name)
    return {item: min(found) for item, found in members.items()}


@dataclass
class GroupVideos(beam.PTransform):
    """Video -> (video_id, Group) ("groups"), and WORK.

    One worker compares all of them: 110,000 take a few minutes of it at most. ``vectors_of`` makes the vectors of a
    video's frames, and says where they lie; its ``engine`` is theirs.
    """

    rules: GroupRules
    cache: Cache
    journal: Journal
    vectors_of: VectorsOf | None = None
    engine: Engine | None = None

    def expand(self, videos: beam.PCollection) -> dict[str, beam.PCollection]:
        options = (self.rules, self.cache, self.journal, self.vectors_of)
        step = recorded_map(self.journal, self.engine, _member, *options)
        due = videos | "Due" >> Advance("frame_hashes", "in")
        hashed = due | "Hash frames" >> step.with_outputs(WORK, main="members")
        groups = (
            hashed.members
            | "Done" >> Advance("frame_hashes", "done")
            | "In one place" >> beam.Map(lambda member: ("", member))
            | "Together" >> beam.GroupByKey()
            | "Group" >> beam.FlatMapTuple(lambda _, members: _grouped(members, self.rules, self.cache))
        )
        return {"groups": groups, WORK: hashed[WORK]}


def _member(
    video: Video, rules: GroupRules, cache: Cache, journal: Journal, vectors_of: VectorsOf | None
) -> Iterator[Member]:
    hashes = vectors = None
    if rules.max_bits is not None:
        with suppress(Deferred):  # in a plan, which does without
            hashes = hash_video(video, cache, journal)
    if vectors_of is not None:
        with suppress(Deferred, RecordedFailure):  # mining accounts for them
            vectors = vectors_of(video)
    yield Member(video.video_id, video.split_key, video.media.duration_s or 0.0, hashes, vectors)


def _grouped(members: Iterable[Member], rules: GroupRules, cache: Cache) -> Iterator[tuple[str, Group]]:
    found = list(members)
    vectors = {member.video_id: _mean(member.vectors, cache) for member in found if member.vectors is not None}
    return grouped(found, rules, vectors=vectors)


def _mean(file: CachedFile, cache: Cache) -> NDArray[np.float32]:
    """The one vector of a video, or the mean of several, of length 1."""
    try:
        with cache.reading(file.key) as path:
            rows = read_vectors(path).vectors
    except NotVectors as error:
        raise CacheFailed(f"{error}; delete it, and its video is embedded again at the next run") from error
    mean: NDArray[np.float32] = Embedding.of(pooled_in_order(rows, 1)).vectors[0]
    return mean
