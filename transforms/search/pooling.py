"""Fewer vectors for a document: means of consecutive ones, or of those that Ward's clustering puts together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.search.grid import grid_scale, on_grid


def pooled_in_order(vectors: NDArray[np.float32], parts: int) -> NDArray[np.float64]:
    """Means of ``parts`` runs of consecutive vectors [n, dims], nearly equal in length; at most one a vector."""
    parts = min(parts, len(vectors))
    labels = np.arange(len(vectors)) * parts // len(vectors)
    return _means(vectors, labels)


def pooled_by_ward(vectors: NDArray[np.float32], budget: int) -> NDArray[np.float64]:
    """At most ``budget`` means of clusters of unit vectors [n, dims], in the order of each cluster's first vector.

    Hierarchical pooling (Clavie et al. 2024, arXiv 2409.14683): Ward's linkage over cosine distances, cut into
    ``budget`` clusters. Distances are exact and ties fall to the vector that comes first, so the result is the same on
    every machine. Takes n^2 time and 8 n^2 bytes.
    """
    if budget < 1:
        raise ValueError(f"a budget of vectors is at least 1, got {budget}")
    if len(vectors) <= budget:
        return vectors.astype(np.float64)
    placed = on_grid(vectors, "grid64")
    distances = 1 - placed @ placed.T / grid_scale("grid64", vectors.shape[1]) ** 2
    heights, pairs = _ward_merges(np.square(np.maximum(distances, 0)))
    return _means(vectors, _cut(len(vectors), pairs[np.argsort(heights, kind="stable")][: len(vectors) - budget]))


def _means(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The mean of each cluster; of one whose vectors cancel out, the first. Labels count from 0, in order of firsts."""
    order = np.argsort(labels, kind="stable")
    firsts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    sizes = np.diff(firsts, append=len(labels))
    means = np.add.reduceat(vectors[order].astype(np.float64), firsts, axis=0) / sizes[:, None]
    return np.where(np.abs(means).max(axis=1, keepdims=True) > 1e-6, means, vectors[order[firsts]])


def _ward_merges(squared: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The heights and pairs of all n - 1 merges; a cluster is named by one of its points. Overwrites ``squared``.

    Chains of nearest neighbours (Murtagh 1983) find the merges of the greedy method, in another order, in n^2 time.
    """
    count = len(squared)
    np.fill_diagonal(squared, np.inf)
    sizes = np.ones(count)
    heights, pairs = np.empty(count - 1), np.empty((count - 1, 2), np.int64)
    chain: list[int] = []
    for merge in range(count - 1):
        if not chain:
            chain.append(int(np.flatnonzero(sizes)[0]))
        while True:
            at = chain[-1]
            nearest = int(np.argmin(squared[at]))
            before = chain[-2] if len(chain) > 1 else -1
            if before >= 0 and squared[at, before] <= squared[at, nearest]:
                break
            chain.append(nearest)
        kept, gone = sorted(chain[-2:])
        del chain[-2:]
        heights[merge], pairs[merge] = squared[kept, gone], (kept, gone)
        _unite(squared, sizes, kept, gone)
    return heights, pairs


def _unite(squared: NDArray[np.float64], sizes: NDArray[np.float64], kept: int, gone: int) -> None:
    """Let ``kept`` stand for both clusters: the update of Lance and Williams for Ward's criterion."""
    others = sizes > 0
    others[[kept, gone]] = False
    both, size = sizes[kept] + sizes[gone], sizes[others]
    united = (sizes[kept] + size) * squared[kept, others] + (sizes[gone] + size) * squared[gone, others]
    united = (united - size * squared[kept, gone]) / (both + size)
    squared[kept, others] = squared[others, kept] = united
    squared[gone], squared[:, gone] = np.inf, np.inf
    sizes[kept], sizes[gone] = both, 0


def _cut(count: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of points after these merges, counted from 0 in the order of each cluster's first point."""
    parents = list(range(count))

    def root(point: int) -> int:
        while parents[point] != point:
            parents[point] = parents[parents[point]]
            point = parents[point]
        return point

    for one, other in pairs.tolist():
        first, second = sorted((root(one), root(other)))
        parents[second] = first
    roots = [root(point) for point in range(count)]
    labels = {name: label for label, name in enumerate(sorted(set(roots)))}
    return np.array([labels[name] for name in roots], np.int64)
