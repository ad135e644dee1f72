"""The k best of all documents for every query, by exact dot products of single unit vectors.

Scores are whole numbers (see ``grid``), and their order is total: higher score first, equal ones by the document's
row. So the same candidates, to the byte, come of any block size, number of threads, BLAS and machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from transforms.search.grid import GridName, grid_scale, on_grid

_SCORES_BYTES = 1 << 28  # of the scores that are held at once: all documents by a block of queries
_QUERIES = 256  # a block has at most
_DOCUMENTS = 4096  # are put on the grid at a time


class Hits(NamedTuple):
    """The rows of the best documents, best first, with their scores; and the score of the one that was asked for."""

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    wanted: float | None


def top_k(
    queries: NDArray[np.float32],
    documents: NDArray[np.float32],
    k: int,
    grid: GridName = "grid64",
    wanted: Sequence[int | None] | None = None,
    *,
    block: int | None = None,
    tile: int = _DOCUMENTS,
) -> list[Hits]:
    """The ``k`` best of ``documents`` [n, dims] for each of ``queries`` [q, dims], all of length 1.

    ``wanted`` names a document a query whose score is told wherever it ranks. ``block`` queries and ``tile`` documents
    are multiplied at a time, which changes no result.
    """
    wanted = wanted or [None] * len(queries)
    block = block or max(1, min(_QUERIES, _SCORES_BYTES // (8 * max(len(documents), 1))))
    unit = grid_scale(grid, documents.shape[1]) ** 2
    hits = []
    for start in range(0, len(queries), block):
        asked = on_grid(queries[start : start + block], grid)
        for scores, row in zip(_products(asked, documents, grid, tile), wanted[start:], strict=False):
            rows = best(scores, k)
            hits.append(Hits(rows, cosines(scores[rows], unit), None if row is None else cosines(scores[row], unit)))
    return hits


def _products(
    asked: NDArray[np.floating[Any]], documents: NDArray[np.float32], grid: GridName, tile: int
) -> NDArray[np.floating[Any]]:
    """[queries, documents], in whole numbers; the documents are never on the grid all at once."""
    scores = np.empty((len(asked), len(documents)), asked.dtype)
    room = np.empty((min(tile, len(documents)), asked.shape[1]), asked.dtype)
    for start in range(0, len(documents), tile):
        columns = slice(start, start + tile)
        placed = on_grid(documents[columns], grid, room[: len(documents) - start])
        np.matmul(asked, placed.T, out=scores[:, columns])
    return scores


def cosines(whole: Any, unit: Any) -> Any:
    """Whole scores, an array or one, of which ``unit`` are 1. Zero has no sign: that depends on the order of a sum."""
    return np.float64(whole) / unit + 0.0


def best(scores: NDArray[np.floating[Any]], k: int) -> NDArray[np.int64]:
    """The places of the ``k`` largest of ``scores`` [n], largest first, equal ones in the order of their places.

    A cut read off every 16th score lies below the k-th largest all but certainly, and leaves few to sort; where it does
    not, the whole is partitioned.
    """
    k = min(k, len(scores))
    if k == 0:
        return np.empty(0, np.int64)
    found = np.empty(0, np.int64)
    if len(scores) > 32 * k:
        sample = scores[::16]
        above = k // 16 + 6 * math.isqrt(k // 16) + 8
        place = max(len(sample) - above, 0)
        found = np.flatnonzero(scores >= np.partition(sample, place)[place])
    if len(found) < k:
        place = len(scores) - k
        found = np.flatnonzero(scores >= np.partition(scores, place)[place])
    order = np.argsort(-scores[found], kind="stable")
    return found[order[:k]]
