"""Near-duplicates on the report's page: how many groups there are, the largest, and what they mean for the splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.outputs.report.pictures import strip
from pipeline.outputs.tables import Row, Tables, VideoIndex
from transforms.group.disjoint_sets import DisjointSets
from transforms.group.group_videos import MOST

SHOWN = 4


@dataclass(frozen=True, slots=True)
class LargeGroup:
    """A group of several near-duplicates: how many, and its first and last by id."""

    size: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Near-duplicate groups of several: how many, of how many videos, and the largest of them.

    ``together`` is the number of videos in the largest set that near-duplicates and events keep in one split.
    """

    groups: int
    videos: int
    largest: tuple[LargeGroup, ...]
    together: int

    @property
    def may_be_cut(self) -> bool:
        """Whether a chain of near-duplicates may have been parted, because its group would have been too large."""
        return self.together > MOST // 2


@dataclass(frozen=True, slots=True)
class ShownVideo:
    """A video of a group as the page shows it; ``frames`` are data URLs."""

    video_id: str
    split: str
    title: str
    uri: str
    frames: tuple[str, ...]


def count_groups(tables: Tables) -> GroupCounts:
    """Count the groups of the videos table."""
    sizes: Counter[str] = Counter()
    last: dict[str, str] = {}
    events: dict[str, set[str]] = {}  # of each group
    grouped: Counter[str] = Counter()  # videos by group
    for row in tables.rows("videos", ["video_id", "group", "metadata.event"]):
        video_id, group, event = row["video_id"], row["group"], row["metadata"]["event"]
        grouped[group] += 1
        last[group] = max(last.get(group, ""), video_id)
        if event:
            events.setdefault(group, set()).add(event)
    sizes.update({group: size for group, size in grouped.items() if size > 1})
    largest = sorted(sizes, key=lambda group: (-sizes[group], group))[:SHOWN]
    return GroupCounts(
        groups=len(sizes),
        videos=sizes.total(),
        largest=tuple(LargeGroup(sizes[group], group, last[group]) for group in largest),
        together=_largest_set(grouped, events),
    )


def _largest_set(grouped: Mapping[str, int], events: Mapping[str, set[str]]) -> int:
    """The number of videos in the largest set that shared events make of the groups."""
    places = {group: place for place, group in enumerate(grouped)}
    sets, first = DisjointSets(len(places)), dict[str, int]()
    for group, named in events.items():
        for event in named:
            sets.join(first.setdefault(event, places[group]), places[group])
    together: Counter[int] = Counter()
    for group, size in grouped.items():
        together[sets.find(places[group])] += size
    return max(together.values(), default=0)


def show_groups(counts: GroupCounts, index: VideoIndex) -> list[tuple[LargeGroup, list[ShownVideo]]]:
    """The largest groups, each with its first and its last video."""
    found = [(group, [index.get(video_id) for video_id in (group.first, group.last)]) for group in counts.largest]
    return [(group, [_shown(row) for row in rows if row]) for group, rows in found]


def _shown(row: Row) -> ShownVideo:
    return ShownVideo(row["video_id"], row["split"], row["metadata"]["title"], row["uri"], strip(row))


def splits_hint(counts: GroupCounts, videos: int, recipe: Mapping[str, Any]) -> str:
    """A sentence where so much must be in one split that the other cannot have its share; else ""."""
    held_out = float(recipe.get("emit", {}).get("validation_fraction", 0.0))
    if not held_out or counts.together < 2 or counts.together <= (1 - held_out) * videos:
        return ""
    return (
        f"{counts.together:,} of {videos:,} videos must be in one split, tied together by events and near-duplicates: "
        f"{held_out:.0%} of the videos cannot be held out. Finer events, or a lower group.max_bits, part them."
    )
