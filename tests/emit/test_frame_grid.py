import io

import pytest
from PIL import Image

from schemas.check import InvalidRecord
from schemas.video import grid_size
from transforms.emit.frame_grid import FrameGrid, on_grid


def jpeg(width, height, colour="red"):
    encoded = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(encoded, "JPEG")
    return encoded.getvalue()


@pytest.mark.parametrize(("count", "kept"), [(1, 2), (2, 2), (5, 4), (40, 24)])
def test_the_number_of_frames_is_even(count, kept):
    times, frames = on_grid([(float(i), jpeg(64, 48)) for i in range(count)], FrameGrid())

    assert len(times) == len(frames) == kept
    assert times == sorted(times)


def test_frames_come_out_as_jpeg_of_the_grid_size():
    _, [frame, _] = on_grid([(0.0, jpeg(640, 360))], FrameGrid())

    assert Image.open(io.BytesIO(frame)).size == grid_size(640, 360, 128 * 32 * 32, 32)


def test_frames_of_several_sizes_come_out_in_one():
    _, frames = on_grid([(0.0, jpeg(640, 360)), (1.0, jpeg(320, 200))], FrameGrid())

    assert {Image.open(io.BytesIO(frame)).size for frame in frames} == {grid_size(640, 360, 128 * 32 * 32, 32)}


def test_an_odd_number_of_frames_is_refused():
    with pytest.raises(InvalidRecord, match="even"):
        FrameGrid(frames=5)
