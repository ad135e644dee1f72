from fractions import Fraction

import av
import numpy as np
import pytest

from tests.support.make_clips import (
    SMALL,
    Track,
    film_frames,
    make_audio,
    make_clip,
    make_huge_picture_clip,
    make_tracks,
    read_barcode,
    sound_frames,
    tone,
)
from tests.support.peak_memory import peak_growth_mb
from transforms.engines.pyav import PyAv, PyAvSampler
from transforms.engines.registry import find_engine
from transforms.media.container import FrameTooLarge, NoVideoStream, UndecodableVideo, UnreadableMedia, packets
from transforms.media.video_stream import target_times
from transforms.protocols.engine import loaded
from transforms.protocols.frames import FramePolicy

DENSE = FramePolicy(sample_fps=4)
# Long groups of pictures with B-frames: the hardest case for seeking and for leaving frames out.
B_FRAMES = {"g": "50", "bf": "3", "b_strategy": "0", "sc_threshold": "0", "preset": "veryfast"}


def sample(path, policy=DENSE, precision="exact"):
    return PyAvSampler(precision).sample(str(path), policy)


def numbers(sampled) -> list[int]:
    return [read_barcode(frame.image) for frame in sampled.frames]


def reasons(sampled) -> list[str]:
    return [warning.reason for warning in sampled.warnings]


def cut(path, target, share: float):
    """A copy of the first ``share`` of the file."""
    data = path.read_bytes()
    target.write_bytes(data[: round(len(data) * share)])
    return target


@pytest.mark.parametrize(
    ("duration_s", "expected"),
    [
        (4.0, [0.5, 1.5, 2.5, 3.5]),
        (4.9, [0.6125, 1.8375, 3.0625, 4.2875]),
        (0.3, [0.15]),
        (0.0, [0.0]),
        (80.0, [5.0, 15.0, 25.0, 35.0, 45.0, 55.0, 65.0, 75.0]),
    ],
)
def test_targets_are_the_midpoints_of_equal_parts(duration_s, expected):
    assert target_times(duration_s, FramePolicy(sample_fps=1, max_frames=8)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", B_FRAMES),
        ("a.mkv", "libx264", B_FRAMES),
        ("a.mp4", "libx265", {"preset": "ultrafast", "x265-params": "log-level=none:keyint=50:bframes=3"}),
        ("a.webm", "libvpx", {"g": "50", "deadline": "realtime", "cpu-used": "8"}),
        ("a.webm", "libvpx-vp9", {"g": "50", "deadline": "realtime", "cpu-used": "8"}),
        ("a.avi", "mpeg4", {"g": "12"}),
        ("a.ts", "libx264", B_FRAMES),
        ("a.flv", "libx264", B_FRAMES),
    ],
)
def test_every_frame_is_the_one_shown_at_its_time(tmp_path, name, codec, options):
    sampled = sample(make_clip(tmp_path / name, 240, size=SMALL, codec=codec, options=options))
    assert len(sampled.frames) == 32
    targets = target_times(sampled.duration_s, DENSE)
    assert numbers(sampled) == [int(time_s * 24 + 1e-6) for time_s in targets]
    assert [frame.time_s * 24 for frame in sampled.frames] == pytest.approx(numbers(sampled), abs=0.05)
    assert sampled.warnings == ()


def test_few_frames_of_a_long_clip_are_exact_too(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=1200, size=SMALL, options=B_FRAMES)
    assert numbers(sample(clip, FramePolicy(sample_fps=0.1))) == [120, 360, 600, 840, 1080]


def test_variable_frame_rates_follow_the_timestamps(tmp_path):
    pts = [n * n // 8 + n for n in range(60)]
    clip = make_clip(tmp_path / "a.mkv", pts=pts, size=SMALL, options=B_FRAMES)
    sampled = sample(clip)
    stamps = np.array(pts) / 24
    assert len(sampled.frames) > 20
    for frame in sampled.frames:
        assert frame.time_s == pytest.approx(stamps[read_barcode(frame.image)], abs=1e-3)
    targets = target_times(sampled.duration_s, DENSE)
    expected = {int(np.searchsorted(stamps, time_s + 1e-3, side="right")) - 1 for time_s in targets}
    assert numbers(sampled) == sorted(expected)


def test_targets_that_share_a_frame_give_it_once(tmp_path):
    sampled = sample(make_clip(tmp_path / "a.mp4", frames=3, fps=1))
    assert numbers(sampled) == [0, 1, 2]
    assert [frame.time_s for frame in sampled.frames] == [0, 1, 2]


def test_times_count_from_the_first_frame(tmp_path):
    sampled = sample(make_clip(tmp_path / "a.ts", pts=range(240, 480), size=SMALL, options=B_FRAMES))
    assert sampled.frames[0].time_s < 0.2
    assert sampled.origin_s > 9
    assert numbers(sampled)[:3] == [round(frame.time_s * 24) for frame in sampled.frames][:3]


def test_keyframe_precision_stays_within_half_the_spacing(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=480, size=SMALL, options=B_FRAMES | {"g": "12"})
    policy = FramePolicy(sample_fps=0.5)
    sampled = sample(clip, policy, "keyframe")
    assert len(sampled.frames) == 10
    assert all(number % 12 == 0 for number in numbers(sampled))
    for frame, target in zip(sampled.frames, target_times(20.0, policy), strict=True):
        assert abs(frame.time_s - target) <= 1.0
        assert frame.time_s * 24 == pytest.approx(read_barcode(frame.image))


def test_keyframe_precision_is_exact_where_no_keyframe_is_near(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=240, size=SMALL, options=B_FRAMES | {"g": "120"})
    policy = FramePolicy(sample_fps=2)  # targets 6, 18, 30 …; the keyframes 0 and 120 are within 6 of four of them
    assert numbers(sample(clip, policy, "keyframe")) == sorted({0, 120, *range(18, 114, 12), *range(138, 240, 12)})


def test_without_a_declared_duration_the_file_is_read_to_its_end(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", frames=96, size=SMALL, options=B_FRAMES)
    data = bytearray(clip.read_bytes())
    at = data.index(b"\x44\x89\x88")  # Matroska's Duration: make it a void element of the same size
    data[at : at + 11] = b"\xec\x89" + bytes(9)
    streamed = tmp_path / "streamed.mkv"
    streamed.write_bytes(data)
    with av.open(str(streamed)) as container:
        assert container.duration is None
    sampled = sample(streamed)
    assert sampled.duration_s == pytest.approx(4, abs=0.01)
    assert numbers(sampled) == [int(t * 24 + 1e-3) for t in target_times(sampled.duration_s, DENSE)]


def test_a_file_cut_short_gives_what_is_there_and_says_so(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", frames=240, options=B_FRAMES)
    sampled = sample(cut(clip, tmp_path / "cut.mkv", 0.5))
    assert "truncated" in reasons(sampled)
    assert 8 < len(sampled.frames) < 24
    assert numbers(sampled) == [round(frame.time_s * 24) for frame in sampled.frames]
    assert sampled.duration_s < 8


@pytest.mark.parametrize("late_ms", [0, 7, 64])
@pytest.mark.parametrize(("name", "codec", "sound"), [("a.webm", "libvpx", "libopus"), ("a.mkv", "libx264", "aac")])
def test_a_file_cut_short_keeps_its_frames_where_sound_begins_first(tmp_path, name, codec, sound, late_ms):
    options = B_FRAMES if codec == "libx264" else {"g": "50", "deadline": "realtime", "cpu-used": "8"}
    film = Track(codec, film_frames(range(120), late_ms=late_ms), options)
    clip = make_tracks(tmp_path / name, Track(sound, sound_frames(tone(5.0)[None])), film)
    for share in (0.2, 0.5, 0.9):
        sampled = sample(cut(clip, tmp_path / f"cut-{name}", share))
        assert len(sampled.frames) == pytest.approx(20 * share, abs=2)
        assert numbers(sampled) == pytest.approx([frame.time_s * 24 for frame in sampled.frames], abs=0.1)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264")])
@pytest.mark.parametrize("fps", [24, 25, 30])
@pytest.mark.parametrize("late_ms", [0, 21])
def test_a_target_at_a_frame_s_own_time_is_that_frame(tmp_path, name, codec, fps, late_ms):
    film = Track(codec, film_frames(range(6 * fps), fps, late_ms=late_ms), B_FRAMES)
    clip = make_tracks(tmp_path / name, film)
    for spacing in (2, 3, 6):  # targets in the middle of so many frames: on a frame, or half way to the next
        sampled = sample(clip, FramePolicy(sample_fps=fps / spacing, max_frames=99))
        shown = [spacing * n + spacing // 2 for n in range(6 * fps // spacing)]
        half = len(shown) // 2  # some containers tell the end, by which targets are spread, less than exactly
        assert numbers(sampled)[:half] == shown[:half]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.avi", "mpeg4", {"g": "12"}), ("a.avi", "libx264", B_FRAMES), ("a.mpg", "mpeg2video", {"g": "12"})],
)
def test_a_hole_in_the_file_is_told(tmp_path, name, codec, options):
    clip = make_clip(tmp_path / name, frames=240, codec=codec, options=options)
    data = bytearray(clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3_000] = bytes(3_000)
    clip.write_bytes(data)
    sampled = sample(clip)
    assert len(sampled.frames) > 20
    assert "damaged packets" in reasons(sampled)


def test_damaged_packets_are_skipped_and_counted(tmp_path):
    clip = make_clip(tmp_path / "a.mkv", frames=240, options=B_FRAMES)
    damaged = tmp_path / "damaged.mkv"
    with av.open(str(clip)) as source, av.open(str(damaged), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if not packet.size:
                continue
            copy = av.Packet(b"\xff" * packet.size if number in (60, 61, 62) else bytes(packet))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            copy.is_keyframe = packet.is_keyframe
            out.mux(copy)
    sampled = sample(damaged)
    assert "damaged packets" in reasons(sampled)
    assert len(sampled.frames) > 20
    assert numbers(sampled)[-1] == 236


@pytest.mark.parametrize(("rotation", "corner"), [(90, (-1, 0)), (180, (-1, -1)), (270, (0, -1)), (-90, (0, -1))])
def test_frames_are_turned_upright(tmp_path, rotation, corner):
    def marked(number, width, height):
        image = np.zeros((height, width, 3), np.uint8)
        image[:40, :40] = 255
        return image

    clip = make_clip(tmp_path / "a.mp4", frames=5, rotation=rotation, draw=marked)
    sampled = sample(clip)
    image = sampled.frames[0].image
    upright = (240, 136) if rotation % 180 == 0 else (136, 240)
    assert (sampled.width, sampled.height) == upright
    assert image.shape[1::-1] == upright
    row, column = (0 if c == 0 else -20 for c in corner)
    assert image[row or 20, column or 20].mean() > 200


def test_a_rotation_by_anything_else_is_ignored(tmp_path):
    assert sample(make_clip(tmp_path / "a.mp4", frames=5, rotation=33)).frames[0].image.shape == (136, 240, 3)


@pytest.mark.parametrize(("aspect", "size"), [(Fraction(4, 3), (240, 102)), (Fraction(1, 2), (120, 136))])
def test_pixels_are_made_square_without_enlarging(tmp_path, aspect, size):
    sampled = sample(make_clip(tmp_path / "a.mp4", frames=5, aspect=aspect))
    assert (sampled.width, sampled.height) == size
    assert sampled.frames[0].image.shape == (size[1], size[0], 3)


def test_frames_are_shrunk_to_the_longer_side_and_never_enlarged(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=5)
    assert sample(clip, FramePolicy(max_side=120)).frames[0].image.shape == (68, 120, 3)
    assert sample(clip, FramePolicy(max_side=9999)).frames[0].image.shape == (136, 240, 3)


@pytest.mark.parametrize(
    ("size", "pix_fmt"), [((1, 1), "yuv444p"), ((321, 243), "yuv444p"), ((240, 136), "yuv420p10le")]
)
def test_odd_sizes_and_deep_colours_decode(tmp_path, size, pix_fmt):
    def grey(number, width, height):
        return np.full((height, width, 3), 128, np.uint8)

    image = sample(make_clip(tmp_path / "a.mp4", frames=5, size=size, pix_fmt=pix_fmt, draw=grey)).frames[0].image
    assert image.shape == (size[1], size[0], 3)
    assert image.dtype == np.uint8
    assert abs(image.mean() - 128) < 5


def test_colours_are_right(tmp_path):
    def orange(number, width, height):
        return np.full((height, width, 3), (230, 120, 20), np.uint8)

    image = sample(make_clip(tmp_path / "a.mp4", frames=5, draw=orange)).frames[0].image
    assert np.abs(image.reshape(-1, 3).mean(axis=0) - (230, 120, 20)).max() < 6


@pytest.mark.parametrize("announced", [None, 64])
def test_a_frame_of_15000_pixels_square_is_refused_without_being_decoded(tmp_path, announced):
    clip = make_huge_picture_clip(tmp_path / "huge.mov", announced=announced)
    with peak_growth_mb() as growth:
        with pytest.raises(FrameTooLarge, match="pixels"):
            sample(clip)
        assert growth() < 50  # the picture alone has 225 MB


def test_the_pixel_limit_holds_for_what_the_headers_say(tmp_path):
    with pytest.raises(FrameTooLarge, match="240 x 136"):
        sample(make_clip(tmp_path / "a.mp4", frames=5), FramePolicy(max_pixels=10_000))


@pytest.mark.parametrize(
    "playlist",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXTINF:10,\nfile:{folder}/secret.mp4\n",
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8", ".ffconcat"])
def test_a_play_list_opens_nothing_else(tmp_path, playlist, suffix):
    make_clip(tmp_path / "secret.mp4", frames=24)
    path = tmp_path / f"list{suffix}"
    path.write_text(playlist.format(folder=tmp_path))
    with pytest.raises(UnreadableMedia):
        sample(path)


def test_hard_names_are_only_names(tmp_path):
    for name in ("ünï cödé %d {x}.mp4", "concat:a|b.mp4", "-y.mp4", "a:b.mp4", "frame%03d.mp4"):
        clip = make_clip(tmp_path / "plain.mp4", frames=24)
        assert numbers(sample(clip.rename(tmp_path / name))) == [3, 9, 15, 21]


@pytest.mark.parametrize("content", [b"", b"This is no video.\n" * 50, bytes(range(256)) * 16])
def test_what_is_no_media_file_is_unreadable(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(UnreadableMedia, match="not a media file"):
        sample(tmp_path / "a.mp4")


def test_a_file_without_pictures_has_no_video_stream(tmp_path):
    with pytest.raises(NoVideoStream):
        sample(make_audio(tmp_path / "a.mp3", tone(1, 44_100), rate=44_100, codec="libmp3lame"))


class LateStream:
    """A container in which, as in a damaged MPEG-TS, packets of a stream turn up that the headers did not announce."""

    def __init__(self):
        self.reads = 0

    def demux(self, stream):
        self.reads += 1
        yield f"packet {self.reads}"
        if self.reads < 3:
            raise IndexError("list index out of range")


def test_packets_of_streams_that_the_headers_did_not_announce_are_passed_over():
    assert list(packets(LateStream(), None)) == ["packet 1", "packet 2", "packet 3"]


def test_headers_without_pictures_are_undecodable(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=48, options=B_FRAMES)
    data = bytearray(clip.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start:end] = bytes(end - start)
    clip.write_bytes(data)
    with pytest.raises(UndecodableVideo, match="not one video frame"):
        sample(clip)


def test_the_recipe_finds_the_engine_and_its_options():
    engine = find_engine("decode", {"engine": "pyav", "precision": "keyframe"})
    assert engine == PyAv("keyframe")
    assert isinstance(loaded(engine), PyAvSampler)
    assert engine.stamp() != PyAv().stamp()


def test_real_clips_give_frames_of_the_declared_size(extra_media):
    for clip in sorted((extra_media / "clips").glob("*.*")):
        if clip.suffix in (".srt", ".m4a"):
            continue
        sampled = sample(clip, FramePolicy(max_frames=5, max_side=300))
        assert sampled.frames, clip
        assert all(max(frame.image.shape[:2]) <= 300 for frame in sampled.frames)
        assert sampled.warnings == (), clip
        assert abs(len(sampled.frames) - max(1, min(5, int(sampled.duration_s)))) <= 1, clip


def test_a_real_clip_with_a_barcode_is_exact(extra_media):
    sampled = sample(extra_media / "made" / "t1.mp4", FramePolicy(sample_fps=2))
    assert len(sampled.frames) == 24
    assert numbers(sampled) == [round(frame.time_s * 24) for frame in sampled.frames]
