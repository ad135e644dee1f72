import struct
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.support.make_clips import make_clip, picture, read_barcode
from transforms.engines.registry import find_engine
from transforms.media.video_stream import Orientation, colour_matrix, on_one_size, orientation
from transforms.protocols.frames import Frame, FramePolicy

STRIPES = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (128, 128, 128)]
BT709, SD = 1, 5  # AVColorSpace
ONE = 1 << 16


def sample(path, engine="pyav", policy=None):
    return find_engine("decode", {"engine": engine}).load().sample(str(path), policy or FramePolicy())


def striped(path, size: tuple[int, int], matrix: int, tagged: bool):
    """Two seconds of four upright stripes, made with a matrix that the file names or keeps to itself."""
    width, height = size
    rgb = np.repeat(np.array(STRIPES, np.uint8)[None], width // 4, axis=1).repeat(height, axis=0)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=4, options={"preset": "ultrafast", "crf": "5"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.color_range = 1
        if tagged:
            stream.codec_context.colorspace = matrix
        for number in range(8):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=matrix, dst_color_range=1)
            frame.colorspace = matrix if tagged else 2
            frame.pts, frame.time_base = number, Fraction(1, 4)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("engine", ["pyav", "decord"])
@pytest.mark.parametrize(
    ("size", "matrix", "tagged"),
    [
        ((1280, 720), BT709, False),
        ((720, 1280), BT709, False),
        ((1280, 544), BT709, False),
        ((640, 360), SD, False),
        ((1280, 720), SD, True),
        ((1280, 720), BT709, True),
        ((640, 360), BT709, True),
    ],
)
def test_colours_are_those_that_players_show(tmp_path, engine, size, matrix, tagged):
    pytest.importorskip(engine if engine != "pyav" else "av")
    image = sample(striped(tmp_path / "a.mp4", size, matrix, tagged), engine).frames[0].image
    height, width = image.shape[:2]
    shown = image[height // 2, width // 8 :: width // 4].astype(int)
    assert np.abs(shown - STRIPES).max() <= 4


@pytest.mark.parametrize("engine", ["pyav", "decord"])
@pytest.mark.parametrize("max_side", [320, 160])
def test_greys_keep_their_level_from_black_to_white(tmp_path, engine, max_side):
    pytest.importorskip(engine if engine != "pyav" else "av")
    levels = np.arange(0, 256, 17)

    def ramp(_, width, height):
        return np.repeat(np.repeat(levels, width // 16)[None, :, None], height, axis=0).repeat(3, axis=2).astype("u1")

    clip = make_clip(tmp_path / "a.mp4", frames=24, size=(320, 192), options={"crf": "1"}, draw=ramp)
    image = sample(clip, engine, FramePolicy(max_side=max_side)).frames[0].image
    width = image.shape[1]
    assert np.abs(image[image.shape[0] // 2, width // 32 :: width // 16].astype(int) - levels[:, None]).max() <= 2
    assert image.max() >= 254
    assert image.min() <= 1


class Stored:
    """A decoded frame of which only the display matrix is asked."""

    def __init__(self, *matrix: int) -> None:
        self.side_data = {"DISPLAYMATRIX": struct.pack("=9i", *matrix)} if matrix else {}


def displayed(a: int, b: int, c: int, d: int) -> Orientation:
    return orientation(Stored(a, b, 0, c, d, 0, 0, 0, 1 << 30))


def test_the_eight_orientations_are_read_from_the_display_matrix():
    image = np.arange(6).reshape(2, 3, 1).repeat(3, axis=2).astype(np.uint8)  # 0 1 2 over 3 4 5
    shown = {
        (ONE, 0, 0, ONE): [[0, 1, 2], [3, 4, 5]],
        (-ONE, 0, 0, ONE): [[2, 1, 0], [5, 4, 3]],
        (ONE, 0, 0, -ONE): [[3, 4, 5], [0, 1, 2]],
        (-ONE, 0, 0, -ONE): [[5, 4, 3], [2, 1, 0]],
        (0, ONE, -ONE, 0): [[3, 0], [4, 1], [5, 2]],
        (0, -ONE, ONE, 0): [[2, 5], [1, 4], [0, 3]],
        (0, ONE, ONE, 0): [[0, 3], [1, 4], [2, 5]],
        (0, -ONE, -ONE, 0): [[5, 2], [4, 1], [3, 0]],
    }
    for matrix, rows in shown.items():
        assert displayed(*matrix).applied(image)[:, :, 0].tolist() == rows
    mirrored = [displayed(*matrix).mirrored for matrix in shown]
    assert mirrored == [False, True, True, False, False, False, True, True]


@pytest.mark.parametrize("matrix", [(), (0,) * 9, (ONE, ONE, 0, -ONE, ONE, 0, 0, 0, 1 << 30), (-(1 << 31),) * 9])
def test_an_orientation_that_is_none_of_the_eight_is_ignored(matrix):
    assert orientation(Stored(*matrix)) == Orientation()


@pytest.mark.parametrize("engine", ["pyav", "decord"])
@pytest.mark.parametrize("flip", ["left_right", "upside_down"])
def test_a_mirrored_picture_is_shown_as_players_show_it(tmp_path, engine, flip):
    pytest.importorskip(engine if engine != "pyav" else "av")
    data = bytearray(make_clip(tmp_path / "a.mp4", frames=48, rotation=180).read_bytes())
    turned = struct.pack(">9i", -ONE, 0, 0, 0, -ONE, 0, 0, 0, 1 << 30)
    at = data.index(turned[:20], data.index(b"tkhd"))
    signs = (-ONE, ONE) if flip == "left_right" else (ONE, -ONE)
    data[at : at + 20] = struct.pack(">5i", signs[0], 0, 0, 0, signs[1])
    (tmp_path / "a.mp4").write_bytes(data)
    step = {"left_right": (1, -1), "upside_down": (-1, 1)}[flip]
    frames = sample(tmp_path / "a.mp4", engine).frames
    assert [read_barcode(frame.image[:: step[0], :: step[1]]) for frame in frames] == [12, 36]


def test_frames_of_several_sizes_are_put_on_the_largest():
    small, tall = np.full((90, 160, 3), 200, np.uint8), np.full((120, 60, 3), 100, np.uint8)
    wide, again, narrow = on_one_size([Frame(0.0, small), Frame(1.0, small), Frame(2.0, tall)])
    assert {frame.image.shape for frame in (wide, again, narrow)} == {(90, 160, 3)}
    assert wide.image is small
    assert narrow.image[:, 60:100].mean() == pytest.approx(100, abs=1)
    assert narrow.image[:, :50].max() == narrow.image[:, -50:].max() == 0
    assert [frame.time_s for frame in (wide, again, narrow)] == [0.0, 1.0, 2.0]


def test_smaller_frames_are_enlarged_without_changing_shape():
    first, _ = on_one_size([Frame(0.0, picture(5)), Frame(1.0, picture(6, 480, 272))])
    assert first.image.shape == (272, 480, 3)
    assert read_barcode(first.image) == 5


def test_a_file_that_names_its_colours_is_believed():
    frame = av.VideoFrame(1920, 1080, "yuv420p")
    assert colour_matrix(frame) == BT709
    frame.colorspace = 9
    assert colour_matrix(frame) == 9
