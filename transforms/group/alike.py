"""Near-duplicates that hashes alone do not show: videos with nearly equal vectors, whose pictures nearly agree.

Neither says enough by itself. Different events may look as alike to an embedder as two copies do, and a logo or a bar
moves a hash as far as another shot of the same scene would.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.check import require_text
from schemas.configuration.section import Section
from transforms.group.disjoint_sets import DisjointSets
from transforms.group.near_duplicates import LEAST_SEEN, MOST_LONGER, Hashed, distance
from transforms.search.grid import grid_scale, on_grid

_BLOCK = 2048
_MOST_PAIRS = 1 << 20  # held before they are thinned out

Pair = tuple[float, int, int]  # less the product of two vectors, and their places


class Alike(Section, frozen=True):
    """Also near-duplicates: the vectors of ``run`` at a cosine of at least this, the hashes within ``max_bits`` of 64.

    The run is a first stage that sees the frames; of several vectors of a video, their mean counts.
    """

    run: str
    cosine: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.97
    max_bits: Annotated[float, msgspec.Meta(ge=0, le=32)] = 20.0

    def __post_init__(self) -> None:
        require_text("run", self.run)


def alike(
    videos: Sequence[Hashed], vectors: Mapping[str, NDArray[np.float32]], rule: Alike, block: int = _BLOCK
) -> list[tuple[str, str]]:
    """Pairs of ids that join all that are alike, nearest first, ties by length and id; ``vectors`` are of length 1.

    As in ``near_duplicates``, no video is longer than its copy by more than a tenth, pairs that others join already are
    left out, and ``block`` changes no result.
    """
    compared = sorted(
        (video for video in videos if video.video_id in vectors and video.hashes.seen >= LEAST_SEEN),
        key=lambda video: (video.duration_s, video.video_id),
    )
    if not compared:
        return []
    rows = np.stack([vectors[video.video_id] for video in compared])
    durations = np.array([video.duration_s for video in compared])
    ends = np.searchsorted(durations, durations * MOST_LONGER, "right")  # of those that each is compared with
    least = rule.cosine * grid_scale("grid64", rows.shape[1]) ** 2
    found: list[Pair] = []
    for start in range(0, len(compared), block):
        left = on_grid(rows[start : start + block], "grid64")
        for first in range(start, int(ends[start : start + block].max()), block):
            products = left @ on_grid(rows[first : first + block], "grid64").T
            for i, j in np.argwhere(products >= least).tolist():
                one, other = i + start, j + first
                if not one < other < ends[one]:
                    continue
                if distance(compared[one].hashes, compared[other].hashes) <= rule.max_bits:
                    found.append((-float(products[i, j]), one, other))
            found = _forest(found, len(compared)) if len(found) > _MOST_PAIRS else found
    return [(compared[one].video_id, compared[other].video_id) for _, one, other in _forest(found, len(compared))]


def _forest(pairs: list[Pair], count: int) -> list[Pair]:
    sets = DisjointSets(count)
    return [pair for pair in sorted(pairs) if sets.join(pair[1], pair[2])]
