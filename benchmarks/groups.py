"""How far apart the frame hashes of copies and of different clips lie, and what comparing all videos of a corpus costs.

Run with ``python -m benchmarks.groups`` (the clips of samples/, each altered in eleven ways; ten minutes) and
``python -m benchmarks.groups cost N`` (CPU seconds of all pairs of N videos with random hashes, all of one length).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np

EVERY = 3  # frames of a clip that its copies have: a third, so that no two sample the same moments


def hashes_of(path: Path, folder: Path) -> tuple[float, object]:
    """Length in seconds, and the frame hashes, of a clip as the pipeline decodes it."""
    from transforms.engines.pyav import PyAvSampler
    from transforms.group.frame_hashes import frame_hashes
    from transforms.media.frame_pack import read_jpegs, write_frame_pack
    from transforms.protocols.frames import FramePolicy

    policy = FramePolicy()
    sampled = PyAvSampler().sample(str(path), policy)
    pack = str(folder / "pack.parquet")
    write_frame_pack(pack, sampled.frames, policy.jpeg_quality)
    return sampled.duration_s or 0.0, frame_hashes(read_jpegs(pack), sampled.duration_s)


def print_distances(clips: list[Path]) -> None:
    """Print a row an alteration: bits between clip and copy, and copies of other clips that would be joined with it."""
    from tests.support.altered_clips import ALTERATIONS, write_copy
    from transforms.group.group_videos import GroupRules
    from transforms.group.near_duplicates import MOST_LONGER, distance

    limit = GroupRules().max_bits
    with tempfile.TemporaryDirectory(prefix="hardquery-") as name:
        folder = Path(name)
        given = {clip.stem: hashes_of(clip, folder) for clip in clips}
        print("| copy | median bits | most bits | found | other clips joined | nearest other clip |")
        print("|---|---:|---:|---:|---:|---:|")
        for title, alteration in ALTERATIONS.items():
            own, others = [], []
            for clip in clips:
                target = folder / ("copy.webm" if "vpx" in alteration.codec else "copy.mp4")
                length_s, hashes = hashes_of(write_copy(clip, target, alteration, EVERY), folder)
                for stem, (other_s, other) in given.items():
                    alike = max(length_s, other_s) <= MOST_LONGER * min(length_s, other_s)
                    bits = distance(hashes, other) if alike else 64.0
                    (own if stem == clip.stem else others).append(bits)
            found, joined = (sum(bits <= limit for bits in distances) for distances in (own, others))
            print(
                f"| {title} | {np.median(own):.1f} | {max(own):.1f} | {found} of {len(own)} | {joined} | "
                f"{min(others):.1f} |",
                flush=True,
            )
        pairs = sorted((distance(given[a][1], given[b][1]), a, b) for a, b in combinations(given, 2))
        print("\nnearest clips:", ", ".join(f"{a} and {b} {bits:.1f}" for bits, a, b in pairs[:5]))


def print_cost(count: int) -> None:
    """Print the CPU seconds of the join, against those of one bare matrix product of all bits of all pairs."""
    from transforms.group.frame_hashes import HASH_BYTES, MOMENTS, VIEWS, FrameHashes
    from transforms.group.near_duplicates import Hashed, near_duplicates

    random = np.random.default_rng(0)
    packed = random.integers(0, 256, (count, len(VIEWS), HASH_BYTES), np.uint8)
    packed[1::100] = packed[: len(packed[1::100]) * 100 : 100]  # one video in a hundred is a copy
    videos = [
        Hashed(f"{place:07d}", 10.0, FrameHashes(tuple(view.tobytes() for view in views), MOMENTS))
        for place, views in enumerate(packed)
    ]
    start = time.process_time()
    found = near_duplicates(videos, 6)
    spent_s = time.process_time() - start
    signs = np.unpackbits(packed[:, 0], axis=1).astype(np.float32) * 2 - 1
    start = time.process_time()
    for first in range(0, count, 2048):
        signs[first : first + 2048] @ signs[first:].T
    bare_s = time.process_time() - start
    scale = (110_000 / count) ** 2
    print("| videos | near-duplicates found | CPU s | bare product, CPU s | 110,000 videos, CPU s |")
    print("|---:|---:|---:|---:|---:|")
    print(f"| {count:,} | {len(found)} | {spent_s:.1f} | {bare_s:.1f} | {spent_s * scale:.0f} |")


def main() -> None:
    """Print one table or the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("distances", "cost"), default="distances")
    parser.add_argument("count", nargs="?", type=int, default=10_000)
    arguments = parser.parse_args()
    if arguments.what == "cost":
        print_cost(arguments.count)
        return
    folder = Path(__file__).parent.parent / "samples" / "videos"
    print_distances(sorted(path for path in folder.iterdir() if path.suffix in (".mp4", ".webm", ".mkv")))


if __name__ == "__main__":
    main()
