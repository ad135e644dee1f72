"""Near-duplicate videos: an exact self-join of all videos by their frame hashes.

Two videos are near-duplicates where their hashes differ in at most ``max_bits`` of 64 on the mean over the moments, of
the whole pictures or of one whole and the other's middle, and one is at most a tenth longer than the other: copies of a
file keep its length, more or less. Nothing is asked of what they show: this finds copies, not videos that are alike.

No pair is missed. A distance over some moments is never above that over all, so that most pairs are ruled out by a
matrix product of a few moments' bits (+1 and -1, whose sums are small integers, exact in any order), and only what is
left is counted in full. Videos are sorted by length, and compared with those that follow within the tenth.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transforms.group.disjoint_sets import DisjointSets
from transforms.group.frame_hashes import HASH_BYTES, MOMENTS, VIEWS, FrameHashes

MOST_LONGER = 1.1
LEAST_SEEN = MOMENTS // 2
"""A video of which fewer moments show anything is like no other."""

_PROBED = (1, 4, 6)  # moments; the first and last of many videos are the same titles
_BLOCK = 2048
_MOST_PAIRS = 1 << 20  # held before they are thinned out
# Which views of two videos are compared: whole pictures, or one whole and the other's middle.
_VIEW_PAIRS = ((0, 0), *((0, view) for view in range(1, len(VIEWS))), *((view, 0) for view in range(1, len(VIEWS))))

Pair = tuple[int, int, int]  # bits over all moments, places of two videos
_Pairs = NDArray[np.int64]  # [n, 3]


@dataclass(frozen=True, slots=True)
class Hashed:
    """What of a video is compared."""

    video_id: str
    duration_s: float
    hashes: FrameHashes


def near_duplicates(videos: Sequence[Hashed], max_bits: float, block: int = _BLOCK) -> list[tuple[str, str]]:
    """Pairs of ids that join all near-duplicates, nearest first: a minimum spanning forest, ties by length and id.

    The pairs left out would join what these join already, by pairs that are nearer. ``block`` changes no result.
    """
    compared = sorted(
        (video for video in videos if video.hashes.seen >= LEAST_SEEN), key=lambda v: (v.duration_s, v.video_id)
    )
    forest: list[Pair] = []
    waiting: list[_Pairs] = []
    for found in _pairs(compared, int(max_bits * MOMENTS), block):
        waiting.append(found)
        if sum(map(len, waiting)) > _MOST_PAIRS:
            forest, waiting = _forest(forest, waiting, len(compared)), []
    forest = _forest(forest, waiting, len(compared))
    return [(compared[left].video_id, compared[right].video_id) for _, left, right in forest]


def distance(left: FrameHashes, right: FrameHashes) -> float:
    """In how many of 64 bits two videos differ on the mean over the moments; that of the nearest views."""
    bits = (
        int(np.bitwise_count(np.frombuffer(left.views[a], np.uint8) ^ np.frombuffer(right.views[b], np.uint8)).sum())
        for a, b in _VIEW_PAIRS
    )
    return min(bits) / MOMENTS


def _pairs(videos: Sequence[Hashed], most: int, block: int) -> Iterator[_Pairs]:
    """All pairs of videos, sorted by length, that differ in at most ``most`` bits over all moments."""
    if not videos:
        return
    durations = np.array([video.duration_s for video in videos])
    ends = np.searchsorted(durations, durations * MOST_LONGER, "right")  # of those that each is compared with
    packed = b"".join(view for video in videos for view in video.hashes.views)
    hashes = np.frombuffer(packed, np.uint8).reshape(len(videos), len(VIEWS), MOMENTS, HASH_BYTES // MOMENTS)
    words = hashes.reshape(len(videos), len(VIEWS), HASH_BYTES).view(np.uint64)
    probed = hashes[:, :, list(_PROBED)].reshape(len(videos), len(VIEWS), -1)
    least = probed.shape[2] * 8 - 2 * most
    for start in range(0, len(videos), block):
        rows = slice(start, start + block)
        left = [_signs(probed[rows, view]) for view in range(len(VIEWS))]
        for first in range(start, int(ends[rows].max()), block):
            columns = slice(first, first + block)
            right = [_signs(probed[columns, view]) for view in range(len(VIEWS))]
            for a, b in _VIEW_PAIRS:
                i, j = np.nonzero(left[a] @ right[b].T >= least)
                i, j = i + start, j + first
                ahead = (i < j) & (j < ends[i])
                i, j = i[ahead], j[ahead]
                bits = np.bitwise_count(words[i, a] ^ words[j, b]).sum(axis=1, dtype=np.int64)
                near = bits <= most
                yield np.stack([bits[near], i[near], j[near]], axis=1)


def _signs(packed: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1


def _forest(forest: list[Pair], waiting: Sequence[_Pairs], count: int) -> list[Pair]:
    """The minimum spanning forest of what is in either."""
    found = np.concatenate([np.array(forest, np.int64).reshape(-1, 3), *waiting])
    sets = DisjointSets(count)
    ordered = found[np.lexsort(found.T[::-1])].tolist()
    return [(bits, left, right) for bits, left, right in ordered if sets.join(left, right)]
