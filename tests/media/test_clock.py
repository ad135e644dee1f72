from fractions import Fraction

import av
import numpy as np
import pytest

from tests.support.make_clips import (
    SMALL,
    Track,
    film_frames,
    make_clip,
    make_tracks,
    picture,
    read_barcode,
    sound_frames,
    tone,
)
from transforms.engines.pyav import PyAvSampler
from transforms.media.audio import read_windows, write_audio
from transforms.media.clock import STEADY, read_clock
from transforms.media.container import open_media
from transforms.protocols.frames import FramePolicy

B_FRAMES = {"g": "50", "bf": "3", "b_strategy": "0", "sc_threshold": "0", "preset": "veryfast"}
DENSE = FramePolicy(sample_fps=4)


def sample(path, policy=DENSE):
    return PyAvSampler().sample(str(path), policy)


def numbers(sampled) -> list[int]:
    return [read_barcode(frame.image) for frame in sampled.frames]


def reasons(sampled) -> list[str]:
    return [warning.reason for warning in sampled.warnings]


def joined(target, *parts):
    """The files one after the other, as ``cat`` joins them."""
    skip = 13 if target.suffix == ".flv" else 0  # the header, which readers take for the end
    first, *others = (part.read_bytes() for part in parts)
    target.write_bytes(first + b"".join(other[skip:] for other in others))
    return target


def part(path, first: int, frames: int = 96, late_ms: int = 0, sound: np.ndarray | None = None):
    """Frames with numbers from ``first`` on, whose clock begins at ``late_ms``."""
    codec = "libvpx" if path.suffix == ".webm" else "libx264" if path.suffix != ".mpg" else "mpeg2video"
    options = {"libvpx": {"g": "50", "deadline": "realtime", "cpu-used": "8"}, "libx264": B_FRAMES}.get(codec, {})
    film = film_frames(range(frames), late_ms=late_ms, draw=lambda number, *size: picture(number + first, *size))
    if path.suffix == ".mpg":
        for number, frame in enumerate(film):
            frame.pts, frame.time_base, frame.duration = number, Fraction(1, 24), 1
    tracks = [Track(codec, film, options)]
    if sound is not None:
        tracks.append(Track("aac", sound_frames(sound[None])))
    return make_tracks(path, *tracks)


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".flv", ".mkv", ".webm"])
def test_a_clock_that_starts_again_goes_on(tmp_path, suffix):
    parts = [part(tmp_path / f"{first}{suffix}", first) for first in (0, 96)]
    sampled = sample(joined(tmp_path / f"joined{suffix}", *parts))
    assert sampled.duration_s == pytest.approx(8, abs=0.1)
    assert numbers(sampled) == pytest.approx([frame.time_s * 24 for frame in sampled.frames], abs=1.5)
    assert numbers(sampled) == pytest.approx([3 + 6 * n for n in range(32)], abs=2)
    assert reasons(sampled) == ["clock jumps"]


def test_a_clock_may_start_again_more_than_once(tmp_path):
    parts = [part(tmp_path / f"{first}.ts", first, frames=48) for first in (0, 48, 96)]
    sampled = sample(joined(tmp_path / "joined.ts", *parts))
    assert numbers(sampled) == pytest.approx([3 + 6 * n for n in range(24)], abs=2)
    assert "at 2.0, 4.0 s" in sampled.warnings[0].message


def test_a_clock_that_leaps_by_a_day_goes_on(tmp_path):
    before, after = part(tmp_path / "a.ts", 0), part(tmp_path / "b.ts", 96, late_ms=24 * 3600 * 1000)
    sampled = sample(joined(tmp_path / "joined.ts", before, after))
    assert sampled.duration_s == pytest.approx(8, abs=0.1)
    assert numbers(sampled) == pytest.approx([3 + 6 * n for n in range(32)], abs=2)
    assert reasons(sampled) == ["clock jumps"]


def test_a_hole_in_a_broadcast_keeps_its_length(tmp_path):
    before, after = part(tmp_path / "a.ts", 0), part(tmp_path / "b.ts", 240, late_ms=10_000)
    sampled = sample(joined(tmp_path / "hole.ts", before, after))
    assert sampled.duration_s == pytest.approx(14, abs=0.1)
    assert numbers(sampled)[-1] == pytest.approx(sampled.frames[-1].time_s * 24, abs=3)
    assert sampled.warnings == ()


def test_sound_goes_on_with_the_pictures(tmp_path):
    silence, beep = np.zeros(48_000, np.int16), tone(1.0)
    parts = [
        part(tmp_path / "a.ts", 0, frames=48, sound=np.concatenate([silence, beep])),
        part(tmp_path / "b.ts", 48, frames=48, sound=np.concatenate([silence, beep])),
    ]
    clip = joined(tmp_path / "joined.ts", *parts)
    written = write_audio(str(clip), str(tmp_path / "a.flac"), sample(clip).origin_s, 3600.0)
    samples = np.concatenate(list(read_windows(str(tmp_path / "a.flac"))))
    loud = [np.abs(samples[round(at * 16_000) :][:8_000].astype(float)).mean() > 1_000 for at in (0.25, 1.25, 2.4, 3.3)]
    assert loud == [False, True, False, True]
    assert written.duration_s == pytest.approx(4, abs=0.2)
    assert [warning.reason for warning in written.warnings] == ["clock jumps"]


@pytest.mark.parametrize("stamp", [0, 1 << 32])
def test_a_few_damaged_stamps_are_no_other_clock(tmp_path, stamp):
    clip, damaged = part(tmp_path / "a.ts", 0, frames=240), tmp_path / "damaged.ts"
    with av.open(str(clip)) as source, av.open(str(damaged), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                out.mux(packet)
    data = bytearray(damaged.read_bytes())
    places = [at for at in range(0, len(data), 188) if data[at + 1] & 0x40 and b"\0\0\1\xe0" in data[at : at + 188]]
    for place in places[100:103]:  # the time of decoding, in a PES header that has both
        at = data.index(b"\0\0\1\xe0", place) + 14
        data[at] = 0x11 | (stamp >> 29 & 0x0E)
    damaged.write_bytes(data)
    with open_media(str(damaged)) as container:
        assert read_clock(container, str(damaged)).jumps_s == ()


def test_containers_with_one_clock_are_not_read_for_it(tmp_path):
    for name in ("a.mp4", "a.mkv"):
        clip = part(tmp_path / name, 0)
        with open_media(str(clip)) as container:
            assert read_clock(container, str(clip)) is STEADY


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.flv", "a.ts"])
def test_a_clock_that_begins_late_counts_from_the_first_picture(tmp_path, name):
    sampled = sample(part(tmp_path / name, 0, frames=240, late_ms=3_600_000), FramePolicy())
    assert sampled.duration_s == pytest.approx(10, abs=0.1)
    assert numbers(sampled) == pytest.approx([12 + 24 * n for n in range(10)], abs=1)
    assert sampled.warnings == ()


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.h264", "libx264", B_FRAMES),
        ("a.hevc", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=50:bframes=3"}),
        ("a.m2v", "mpeg2video", {"bf": "2", "g": "12"}),
        ("a.m1v", "mpeg1video", {"bf": "2", "g": "12"}),
        ("a.avi", "libx264", B_FRAMES),
        ("a.avi", "libx264", B_FRAMES | {"x264-params": "open-gop=1"}),
        ("a.avi", "libx264", {"bf": "0"}),
        ("a.avi", "mpeg4", {"bf": "2", "g": "24"}),
        ("a.avi", "mjpeg", {}),
        ("a.asf", "libx264", B_FRAMES),
        ("a.wmv", "wmv2", {}),
        ("a.ivf", "libvpx", {"g": "50", "deadline": "realtime", "cpu-used": "8"}),
        ("a.gif", "gif", {}),
    ],
)
def test_pictures_and_times_belong_together_where_no_time_of_showing_is_stored(tmp_path, name, codec, options):
    pix_fmt = {"mjpeg": "yuvj420p", "gif": "rgb8"}.get(codec, "yuv420p")
    clip = make_clip(tmp_path / name, 240, size=SMALL, codec=codec, options=options, pix_fmt=pix_fmt)
    sampled = sample(clip)
    assert sampled.duration_s == pytest.approx(10, abs=0.15)
    assert len(sampled.frames) == 32
    assert numbers(sampled) == pytest.approx([frame.time_s * 24 for frame in sampled.frames], abs=0.5)
    assert numbers(sampled) == pytest.approx([3.75 + 7.5 * n for n in range(32)], abs=2)
    assert sampled.warnings == ()
