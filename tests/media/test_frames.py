import pytest

from schemas.video import grid_size, spread

BUDGET = 128 * 32 * 32


@pytest.mark.parametrize("size", [(1920, 1080), (1, 1), (33, 4000), (568, 320), (1024, 1024), (8192, 16)])
@pytest.mark.parametrize("multiple", [1, 28, 32])
def test_sizes_are_on_the_grid_and_inside_the_budget(size, multiple):
    width, height = grid_size(*size, BUDGET, multiple)

    assert width % multiple == height % multiple == 0
    assert multiple**2 <= width * height <= BUDGET


def test_a_wide_frame_keeps_its_shape():
    assert grid_size(1920, 1080, BUDGET, 32) == (480, 256)


def test_a_frame_has_one_square_of_the_grid_even_where_the_budget_has_none():
    assert grid_size(640, 360, 100, 32) == (32, 32)


@pytest.mark.parametrize(
    ("count", "wanted", "indices"),
    [(1, 4, [0]), (4, 2, [1, 3]), (5, 5, [0, 1, 2, 3, 4]), (10, 4, [1, 3, 6, 8]), (0, 4, [])],
)
def test_frames_are_spread_evenly(count, wanted, indices):
    assert spread(count, wanted) == indices
