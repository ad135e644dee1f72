"""Groups of videos that must share a split: those of one event, and near-duplicates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

import apache_beam as beam
import msgspec

from schemas.configuration.section import Section
from schemas.video import Video
from transforms.group.disjoint_sets import DisjointSets
from transforms.group.frame_hashes import FrameHashes, hash_video
from transforms.group.near_duplicates import Hashed, near_duplicates
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.progress import Advance
from transforms.storage.cache import Cache
from transforms.workers.recorded import WORK, recorded_map

MOST = 1000
"""No chain of near-duplicates makes a group of more videos than this."""


class GroupRules(Section, frozen=True):
    """Which videos are near-duplicates: ``max_bits`` of 64 in which their frame hashes may differ, null for none.

    Of the sample clips, copies that were compressed or made smaller differ in at most 3, those that lost their margins
    in at most 4, and different clips in more than 6 (benchmarks/README.md).
    """

    max_bits: Annotated[float, msgspec.Meta(ge=0, le=16)] | None = 6.0


@dataclass(frozen=True, slots=True)
class Group:
    """Where a video belongs: ``near`` is the smallest id among it and its near-duplicates, direct and indirect.

    ``split_key`` is the smallest of all that must share its split, events before ids (see ``Video.split_key``).
    """

    near: str
    split_key: str


@dataclass(frozen=True, slots=True)
class Member:
    """What of a video decides its group; ``hashes`` are None where it has no pictures, or they are not known yet."""

    video_id: str
    split_key: str
    duration_s: float
    hashes: FrameHashes | None


def grouped(members: Iterable[Member], rules: GroupRules, most: int = MOST) -> Iterator[tuple[str, Group]]:
    """The group of every video, by its id; the order of ``members`` decides nothing.

    Near-duplicates are joined nearest first, and two that would make a group of more than ``most`` are not. An event is
    never parted.
    """
    videos = sorted(members, key=lambda member: member.video_id)
    places = {member.video_id: place for place, member in enumerate(videos)}
    pairs: Sequence[tuple[str, str]] = ()
    if rules.max_bits is not None:
        hashed = [Hashed(v.video_id, v.duration_s, v.hashes) for v in videos if v.hashes is not None]
        pairs = near_duplicates(hashed, rules.max_bits)
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

    One worker compares all of them: 110,000 take a few minutes of it at most.
    """

    rules: GroupRules
    cache: Cache
    journal: Journal

    def expand(self, videos: beam.PCollection) -> dict[str, beam.PCollection]:
        step = recorded_map(self.journal, None, _member, self.rules, self.cache, self.journal)
        due = videos | "Due" >> Advance("frame_hashes", "in")
        hashed = due | "Hash frames" >> step.with_outputs(WORK, main="members")
        groups = (
            hashed.members
            | "Done" >> Advance("frame_hashes", "done")
            | "In one place" >> beam.Map(lambda member: ("", member))
            | "Together" >> beam.GroupByKey()
            | "Group" >> beam.FlatMapTuple(lambda _, members: grouped(members, self.rules))
        )
        return {"groups": groups, WORK: hashed[WORK]}


def _member(video: Video, rules: GroupRules, cache: Cache, journal: Journal) -> Iterator[Member]:
    hashes = None
    if rules.max_bits is not None:
        with suppress(Deferred):  # in a plan, which does without
            hashes = hash_video(video, cache, journal)
    yield Member(video.video_id, video.split_key, video.media.duration_s or 0.0, hashes)
