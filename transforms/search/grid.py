"""Vectors on a grid of integers, whose products are exact and therefore the same whoever computes them.

A unit vector times a scale, each coordinate rounded, is a vector of integers no longer than the grid's ``longest``. By
Cauchy and Schwarz every sum of some of the terms of a product of two such vectors is an integer of at most
``longest``^2, which the grid's floating-point type holds exactly. So a matrix product gives the same integers whatever
its blocks, threads, kernels, order and fused multiplications; and divided by scale^2 they are the cosines.

``grid32``: 2^12, products within the 2^24 that fp32 holds; a score is off by 1e-4. ``grid64``: 2^26, products within
2^52, half of what fp64 holds; all that fp32 vectors say is kept, at 2 to 2.5 times the price.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

GridName = Literal["grid64", "grid32"]

_TYPES: dict[GridName, type[np.floating[Any]]] = {"grid64": np.float64, "grid32": np.float32}
_LONGEST: dict[GridName, float] = {"grid64": 2.0**26, "grid32": 2.0**12}


def scale_of(longest: float, dims: int) -> float:
    """What to multiply unit vectors by, a whole number, so that rounded they are no longer than ``longest``.

    Rounding adds at most sqrt(dims) / 2 to a vector's length. That of a unit vector in fp32 is below 1 + 2^-23, and
    multiplying it in fp32 adds half as much again.
    """
    return math.floor((longest - math.sqrt(dims) / 2) / (1 + 2**-22))


def grid_scale(grid: GridName, dims: int) -> float:
    """The scale of a grid: its scores are products divided by the square of it."""
    return scale_of(_LONGEST[grid], dims)


def on_grid(vectors: NDArray[np.float32], grid: GridName) -> NDArray[np.floating[Any]]:
    """Unit vectors [n, dims] as whole numbers in the grid's type, of the same shape."""
    kind = _TYPES[grid]
    placed = np.multiply(vectors, kind(grid_scale(grid, vectors.shape[1])), dtype=kind)
    return np.rint(placed, out=placed)
