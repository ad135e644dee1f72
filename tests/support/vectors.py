"""Vectors for tests of search: clustered, with documents that are the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transforms.protocols.embed import Embedding


def unit(vectors: NDArray[np.floating]) -> NDArray[np.float32]:
    return Embedding.of(vectors).vectors


def clustered(
    documents: int, queries: int, dims: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(queries, documents) of length 1; one document in ten is there twice, so that scores tie exactly."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((20, dims))
    placed = centres[rng.integers(0, 20, documents)] + 1.5 * rng.standard_normal((documents, dims))
    placed[1::10] = placed[::10][: len(placed[1::10])]
    asked = placed[rng.integers(0, documents, queries)] + 1.5 * rng.standard_normal((queries, dims))
    return unit(asked), unit(placed)


def ragged(documents: int, levels: int, dims: int, longest: int = 12, seed: int = 0) -> list[tuple[str, Embedding]]:
    """Documents of ``levels`` times 1 to ``longest`` vectors, sorted by id; one in ten is there twice."""
    rng = np.random.default_rng(seed)
    entries: list[tuple[str, Embedding]] = []
    for number in range(documents):
        lengths = rng.integers(1, longest + 1, levels).tolist()
        embedding = Embedding.of(rng.standard_normal((sum(lengths), dims)), lengths)
        entries.append((f"v{number:05}", entries[-1][1] if number % 10 == 1 else embedding))
    return entries


def asked(queries: int, longest: int, dims: int, seed: int = 1) -> list[NDArray[np.float32]]:
    """Queries of 1 to ``longest`` vectors."""
    rng = np.random.default_rng(seed)
    return [unit(rng.standard_normal((int(rng.integers(1, longest + 1)), dims))) for _ in range(queries)]
