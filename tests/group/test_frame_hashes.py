"""Frame hashes: the same bits for the same pictures at the same moments, whatever frames were sampled."""

import io
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from schemas.check import InvalidRecord
from schemas.video import Evidence, MediaFacts, Video
from transforms.group import frame_hashes as module
from transforms.group.frame_hashes import HASH_BYTES, MOMENTS, VIEWS, FrameHashes, frame_hashes, hash_video
from transforms.group.near_duplicates import distance
from transforms.journal.journal import Journal
from transforms.media.frame_pack import write_frame_pack
from transforms.protocols.frames import Frame
from transforms.storage.cache import Cache


def picture(seed: int, side: int = 96) -> np.ndarray:
    """A few soft shapes that no other seed has."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


def jpeg(image: np.ndarray, quality: int = 90) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return file.getvalue()


def film(times, scene_s: float = 2.0, **options) -> list[tuple[float, bytes]]:
    """Frames at these seconds of a film that fades from one picture to the next."""
    frames = []
    for time_s in times:
        scene, share = divmod(time_s / scene_s, 1.0)
        mixed = picture(int(scene)) * (1 - share) + picture(int(scene) + 1) * share
        frames.append((time_s, jpeg(mixed.round().astype(np.uint8), **options)))
    return frames


def test_a_film_is_found_again_by_frames_of_other_moments_and_quality():
    sampled = frame_hashes(film(np.arange(0.5, 16)), 16.0)
    elsewhere = frame_hashes(film(np.arange(0.3, 15.9, 0.8), quality=40), 15.9)
    another = frame_hashes([(time_s, jpeg(picture(100 + n))) for n, time_s in enumerate(np.arange(0.5, 16))], 16.0)

    assert distance(sampled, elsewhere) <= 6
    assert distance(sampled, another) > 20


def test_a_moment_between_two_frames_is_their_mixture_and_no_jump():
    frames = [(0.0, jpeg(picture(1))), (10.0, jpeg(picture(2)))]
    hashes = frame_hashes(frames, 10.0).views[0]
    near = [bits(hashes, moment, frame_hashes(frames[:1], 10.0).views[0]) for moment in range(MOMENTS)]

    assert near[0] < near[3] < near[7]


def bits(one: bytes, moment: int, other: bytes) -> int:
    span = slice(8 * moment, 8 * moment + 8)
    return (int.from_bytes(one[span], "big") ^ int.from_bytes(other[span], "big")).bit_count()


def test_one_frame_stands_for_all_moments():
    hashes = frame_hashes([(0.0, jpeg(picture(3)))], None)

    assert hashes.seen == MOMENTS
    assert all(view == view[:8] * MOMENTS for view in hashes.views)


def test_a_black_picture_shows_nothing_and_has_no_bits():
    hashes = frame_hashes([(0.0, jpeg(np.zeros((96, 96, 3), np.uint8)))], 5.0)

    assert hashes == FrameHashes((bytes(HASH_BYTES),) * len(VIEWS), 0)


def test_the_middle_of_a_picture_is_that_of_one_that_lost_its_margins():
    whole = picture(4, 200)
    cropped = frame_hashes([(0.0, jpeg(whole[10:190, 10:190]))], 1.0)
    kept = frame_hashes([(0.0, jpeg(whole))], 1.0)

    assert distance(kept, cropped) == distance(cropped, kept) <= 2


def test_hashes_of_another_size_are_no_hashes():
    with pytest.raises(InvalidRecord, match="64 bits a moment"):
        FrameHashes((b"short",), 8)


def test_a_video_is_hashed_once_and_one_without_pictures_never(tmp_path, monkeypatch):
    frames = [Frame(float(second), picture(second)) for second in range(3)]
    write_frame_pack(str(tmp_path / "pack"), frames, 90)
    cache = Cache(str(tmp_path / "cache"))
    pack = cache.publish(str(tmp_path / "pack"), "frames/aa/bb.parquet").key
    video = Video("v", "a.mp4", MediaFacts("0" * 64, 5, duration_s=3.0), Evidence(), pack, len(frames))

    with closing(Journal(cache.root)) as journal:
        first = hash_video(video, cache, journal)
        assert hash_video(Video("s", "b.mp4", video.media, Evidence()), cache, journal) is None
    monkeypatch.setattr(module, "frame_hashes", None)
    with closing(Journal(cache.root)) as journal:
        assert hash_video(video, cache, journal) == first
