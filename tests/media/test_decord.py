import numpy as np
import pytest

from tests.support.make_clips import SMALL, make_clip, make_huge_picture_clip, read_barcode
from transforms.engines.pyav import PyAvSampler
from transforms.engines.registry import find_engine
from transforms.media.container import FrameTooLarge, UnreadableMedia
from transforms.protocols.frames import FramePolicy

pytest.importorskip("decord")
POLICY = FramePolicy(sample_fps=2, max_side=300)
B_FRAMES = {"g": "50", "bf": "3", "sc_threshold": "0", "preset": "veryfast"}


def sample(path, policy=POLICY):
    return find_engine("decode", {"engine": "decord"}).load().sample(str(path), policy)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.mp4", "libx265"), ("a.webm", "libvpx")]
)
def test_decord_gives_the_frames_that_pyav_gives(tmp_path, name, codec):
    options = {"x265-params": "log-level=none", "preset": "ultrafast"} if codec == "libx265" else B_FRAMES
    clip = make_clip(
        tmp_path / name,
        frames=240,
        size=SMALL,
        codec=codec,
        options=options if codec != "libvpx" else {"g": "50", "deadline": "realtime", "cpu-used": "8"},
    )
    ours, theirs = PyAvSampler().sample(str(clip), POLICY), sample(clip)
    assert theirs.warnings == ()
    assert [read_barcode(frame.image) for frame in theirs.frames] == [
        read_barcode(frame.image) for frame in ours.frames
    ]
    assert [frame.time_s for frame in theirs.frames] == [frame.time_s for frame in ours.frames]
    for field in ("container", "codec", "width", "height", "fps", "duration_s", "origin_s"):
        assert getattr(theirs, field) == getattr(ours, field)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_decord_turns_frames_as_pyav_does(tmp_path, rotation):
    clip = make_clip(tmp_path / "a.mp4", frames=12, rotation=rotation)
    ours, theirs = PyAvSampler().sample(str(clip), POLICY), sample(clip)
    assert theirs.warnings == ()
    assert (theirs.width, theirs.height) == (ours.width, ours.height)
    assert np.abs(theirs.frames[0].image.astype(int) - ours.frames[0].image).mean() < 4


def test_frames_are_shrunk_and_never_enlarged(tmp_path):
    clip = make_clip(tmp_path / "a.mp4", frames=12)
    assert sample(clip, FramePolicy(max_side=120)).frames[0].image.shape == (68, 120, 3)
    assert sample(clip).frames[0].image.shape == (136, 240, 3)


@pytest.mark.parametrize(
    ("name", "codec", "why"),
    [
        ("a.ts", "libx264", "not exact on h264 in mpegts"),
        ("a.avi", "mpeg4", "not exact on mpeg4 in avi"),
        ("a.mp4", "mpeg4", "not exact on mpeg4 in mov"),
    ],
)
def test_elsewhere_pyav_steps_in_and_says_so(tmp_path, name, codec, why):
    sampled = sample(make_clip(tmp_path / name, frames=96, size=SMALL, codec=codec))
    assert [read_barcode(frame.image) for frame in sampled.frames] == [round(f.time_s * 24) for f in sampled.frames]
    assert [warning.reason for warning in sampled.warnings] == ["decord fallback"]
    assert why in sampled.warnings[0].message


def test_where_decord_fails_pyav_steps_in_with_the_same_words_each_time(tmp_path):
    data = bytearray(make_clip(tmp_path / "a.mp4", frames=240, options=B_FRAMES).read_bytes())
    middle = data.index(b"mdat") + 20_000
    data[middle : middle + 3_000] = b"\xff" * 3_000
    (tmp_path / "damaged.mp4").write_bytes(data)
    first, again = sample(tmp_path / "damaged.mp4"), sample(tmp_path / "damaged.mp4")
    assert "decord fallback" in [warning.reason for warning in first.warnings]
    assert first.warnings == again.warnings
    assert first.frames


def test_what_pyav_refuses_is_refused(tmp_path):
    with pytest.raises(FrameTooLarge):
        sample(make_huge_picture_clip(tmp_path / "huge.mov"))
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile huge.mov\n")
    with pytest.raises(UnreadableMedia):
        sample(tmp_path / "list.mp4")


def test_an_edit_list_is_left_to_pyav(extra_media):
    sampled = sample(extra_media / "clips" / "editlist.mp4")
    assert [warning.message for warning in sampled.warnings] == ["sampled by PyAV: decord ignores the file's edit list"]
    assert sampled.duration_s == pytest.approx(7.7, abs=0.01)


def test_real_clips_agree_with_pyav(extra_media):
    for name in ("vfr.mkv", "vp9.webm", "h265_text.mp4", "rot_90.mov", "nasa_13013.mp4", "31_odd_dims.mp4"):
        path = next(extra_media.rglob(name))
        ours, theirs = PyAvSampler().sample(str(path), POLICY), sample(path)
        assert theirs.warnings == (), name
        assert [frame.time_s for frame in theirs.frames] == [frame.time_s for frame in ours.frames], name
        for mine, other in zip(ours.frames, theirs.frames, strict=True):
            assert np.abs(mine.image.astype(int) - other.image).mean() < 8, name
