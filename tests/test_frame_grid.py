import io

import pytest
from PIL import Image

from schemas.check import InvalidRecord
from transforms.frame_grid import FrameGrid, grid_size, on_grid, spread


def jpeg(width, height, colour="red"):
    encoded = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(encoded, "JPEG")
    return encoded.getvalue()


@pytest.mark.parametrize("size", [(1920, 1080), (1, 1), (33, 4000), (568, 320), (1024, 1024), (8192, 16)])
def test_sizes_are_on_the_grid_and_inside_the_budget(size):
    grid = FrameGrid()

    width, height = grid_size(*size, grid)

    assert width % 32 == height % 32 == 0
    assert 32 * 32 <= width * height <= grid.max_pixels


def test_a_wide_frame_keeps_its_shape():
    assert grid_size(1920, 1080, FrameGrid()) == (480, 256)


@pytest.mark.parametrize(("count", "wanted", "indices"), [(1, 4, [0]), (4, 2, [1, 3]), (5, 5, [0, 1, 2, 3, 4])])
def test_frames_are_spread_evenly(count, wanted, indices):
    assert spread(count, wanted) == indices


@pytest.mark.parametrize(("count", "kept"), [(1, 2), (2, 2), (5, 4), (40, 24)])
def test_the_number_of_frames_is_even(count, kept):
    times, frames = on_grid([(float(i), jpeg(64, 48)) for i in range(count)], FrameGrid())

    assert len(times) == len(frames) == kept
    assert times == sorted(times)


def test_frames_come_out_as_jpeg_of_the_grid_size():
    _, [frame, _] = on_grid([(0.0, jpeg(640, 360))], FrameGrid())

    assert Image.open(io.BytesIO(frame)).size == grid_size(640, 360, FrameGrid())


def test_an_odd_number_of_frames_is_refused():
    with pytest.raises(InvalidRecord, match="even"):
        FrameGrid(frames=5)
