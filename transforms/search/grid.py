"""Vectors on a grid of integers, whose products are exact and therefore the same whoever computes them.

A unit vector times a scale, each coordinate rounded, is a vector of integers of known length. By Cauchy and Schwarz
every sum of some of the terms of a product of two such vectors is an integer of at most that length squared; where the
grid's floating-point type holds all of those, a matrix product gives the same integers whatever its blocks, threads,
kernels, order and fused multiplications. Divided by scale^2 they are the cosines.

``grid32``: vectors no longer than 2^12, products within the 2^24 that fp32 holds; a score is off by 1e-4. ``grid64``: a
scale of 2^26, products below the 2^53 that fp64 holds; keeps what fp32 vectors say, at twice the price.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

GridName = Literal["grid64", "grid32"]

_TYPES: dict[GridName, type[np.floating[Any]]] = {"grid64": np.float64, "grid32": np.float32}
_ROWS = 128  # are placed at a time, within the processor's cache


def scale_of(longest: float, dims: int) -> float:
    """What to multiply unit vectors by, a whole number, so that rounded they are no longer than ``longest``.

    Rounding adds at most sqrt(dims) / 2 to a vector's length. That of a unit vector in fp32 is below 1 + 2^-23, and
    multiplying it in fp32 adds half as much again.
    """
    return math.floor((longest - math.sqrt(dims) / 2) / (1 + 2**-22))


def grid_scale(grid: GridName, dims: int) -> float:
    """The scale of a grid: its scores are products divided by the square of it."""
    return 2.0**26 if grid == "grid64" else scale_of(2.0**12, dims)


def on_grid(
    vectors: NDArray[np.float32], grid: GridName, out: NDArray[np.floating[Any]] | None = None
) -> NDArray[np.floating[Any]]:
    """Unit vectors [n, dims] as whole numbers in the grid's type, of the same shape; in ``out`` where it is given.

    fp32 suffices for the way there: times 2^26 it is exact, and what it holds above 2^24 is whole.
    """
    placed = np.empty(vectors.shape, _TYPES[grid]) if out is None else out
    scale = np.float32(grid_scale(grid, vectors.shape[1]))
    room = np.empty((min(_ROWS, len(vectors)), vectors.shape[1]), np.float32)
    for start in range(0, len(vectors), _ROWS):
        part = room[: len(vectors) - start]
        np.multiply(vectors[start : start + _ROWS], scale, out=part)
        placed[start : start + _ROWS] = np.rint(part, out=part)
    return placed
