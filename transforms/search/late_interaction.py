"""MeanMaxSim of queries and documents of several vectors, exact and in two stages.

The score of a query q_1 .. q_M and a document is the sum over its levels X of 1/M sum_j max over x in X of q_j . x.

Exactness. Documents are int8 codes c, at most 127 sqrt(dims) long; query vectors lie on a grid of integers no longer
than 2^24 / (127 sqrt(dims)). So every partial sum of c . q is an integer of at most 2^24, which fp32 holds: matrix
products are the same in any order (see ``grid``). Each is then multiplied by 1/|c|, one correctly rounded fp32
multiplication, of which the largest is taken, which knows no order. That is rounded to 1024ths of the query's grid, and
what is summed over query vectors and levels are whole numbers far below 2^53, exact in fp64. So a score has the same
bytes for any block, thread, BLAS and machine.

Two stages. Where there are many documents, the first stage takes, by the same score, the best of documents pooled to
four vectors a level; the second scores those in full. The rank of a document is then its place among those; one that
the first stage leaves out has no rank. A query's own video is scored in full all the same, but never brought into the
list by that: candidates are what is found by those who do not know the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transforms.search.grid import scale_of
from transforms.search.tokens import LARGEST_CODE, Tokens
from transforms.search.top_k import Hits, best, cosines

_FINE = 1024  # parts of the query's grid that a largest product is rounded to
_COLUMNS = 1024  # query vectors that are multiplied at a time
_TOKENS = 512  # document vectors likewise: their products stay in the processor's cache


@dataclass(frozen=True, eq=False)
class _Asked:
    """Some queries on the grid: ``columns`` [dims, vectors of all], where each starts, and the units of its scores."""

    columns: NDArray[np.float32]
    starts: NDArray[np.int64]
    units: NDArray[np.float64]

    @classmethod
    def of(cls, queries: Sequence[NDArray[np.float32]]) -> _Asked:
        dims = queries[0].shape[1]
        scale = scale_of(2**24 / (LARGEST_CODE * math.sqrt(dims)), dims)
        columns = np.rint(np.concatenate(queries).astype(np.float64) * scale).astype(np.float32)
        counts = np.array([len(query) for query in queries])
        return cls(np.ascontiguousarray(columns.T), np.cumsum(counts) - counts, counts * scale * float(_FINE))


def search_tokens(
    documents: Tokens,
    pooled: Tokens | None,
    queries: Sequence[NDArray[np.float32]],
    depth: int,
    first: int,
    wanted: Sequence[int | None],
    *,
    columns: int = _COLUMNS,
    block: int = _TOKENS,
) -> list[Hits]:
    """The ``depth`` best documents for each of ``queries`` [vectors, dims], all of length 1.

    With ``pooled`` documents, only the best ``first`` by those are scored in full, or ``depth`` where that is more.
    ``wanted`` names a document a query whose score is told wherever it ranks. Up to ``columns`` query vectors and
    ``block`` document vectors are multiplied at a time, which changes no result.
    """
    hits: list[Hits] = []
    for batch in _batches(queries, columns):
        asked = _Asked.of(batch)
        own = wanted[len(hits) : len(hits) + len(batch)]
        if pooled is None:
            totals = _totals(documents, asked, block).T
            hits += map(_hits, totals, own, [depth] * len(batch), asked.units)
            continue
        for query, scores, row in zip(batch, _totals(pooled, asked, block).T, own, strict=True):
            chosen = np.sort(best(scores, max(first, depth)))
            hits.append(_rescored(documents, query, chosen, row, depth, block))
    return hits


def _rescored(
    documents: Tokens, query: NDArray[np.float32], chosen: NDArray[np.int64], row: int | None, depth: int, block: int
) -> Hits:
    """Of the ``chosen`` documents, in the order of their rows, the ``depth`` best; and the score of ``row``."""
    asked = _Asked.of([query])
    scores = _totals(documents.taken(chosen), asked, block)[:, 0]
    found = _hits(scores, None, depth, asked.units[0])
    own = (
        None if row is None else cosines(_totals(documents.taken(np.array([row])), asked, block)[0, 0], asked.units[0])
    )
    return Hits(chosen[found.rows], found.scores, own)


def _hits(totals: NDArray[np.float64], row: int | None, depth: int, unit: float) -> Hits:
    rows = best(totals, depth)
    return Hits(rows, cosines(totals[rows], unit), None if row is None else cosines(totals[row], unit))


def mean_max_sim(
    documents: Tokens, queries: Sequence[NDArray[np.float32]], *, columns: int = _COLUMNS, block: int = _TOKENS
) -> NDArray[np.float64]:
    """The score of every query with every document, [queries, documents]."""
    batches = (_Asked.of(batch) for batch in _batches(queries, columns))
    scores = [cosines(_totals(documents, asked, block).T, asked.units[:, None]) for asked in batches]
    return np.concatenate(scores) if scores else np.empty((0, len(documents)))


def _totals(documents: Tokens, asked: _Asked, block: int) -> NDArray[np.float64]:
    """Scores [documents, queries] in whole numbers, each query's in units of its own."""
    totals = np.empty((len(documents), len(asked.starts)))
    bounds, levels = documents.document_starts, documents.levels
    first = 0
    while first < len(documents):
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + block, "right")) - 1)
        tokens = slice(bounds[first], bounds[last])
        products = documents.codes[tokens].astype(np.float32) @ asked.columns
        products *= documents.scales[tokens, None]
        groups = documents.starts[first * levels : last * levels + 1] - bounds[first]
        fine = np.rint(_largest(products, groups) * np.float32(_FINE)).astype(np.float64)
        summed = fine.reshape(last - first, levels, -1).sum(axis=1)
        totals[first:last] = np.add.reduceat(summed, asked.starts, axis=1)
        first = last
    return totals


def _largest(products: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """The largest of each column in each group of rows.

    Vectors of documents are rows so that this runs along memory; ``np.maximum.reduceat`` does not, and takes ten times
    as long.
    """
    largest = np.empty((len(starts) - 1, products.shape[1]), np.float32)
    for group, (start, end) in enumerate(pairwise(starts.tolist())):
        np.maximum.reduce(products[start:end], axis=0, out=largest[group])
    return largest


def _batches(queries: Sequence[NDArray[np.float32]], columns: int) -> Iterator[Sequence[NDArray[np.float32]]]:
    """Consecutive queries with at most ``columns`` vectors together, or one query."""
    first, held = 0, 0
    for at, query in enumerate(queries):
        if at > first and held + len(query) > columns:
            yield queries[first:at]
            first, held = at, 0
        held += len(query)
    if queries:
        yield queries[first:]
