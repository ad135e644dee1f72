"""Token vectors of many documents as int8 codes: how they are made, laid out, and taken out again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LARGEST_CODE = 127


@dataclass(frozen=True, eq=False)
class Tokens:
    """The vectors of all documents, one after the other, a document's levels in order.

    A vector is ``codes`` [tokens, dims], int8, times the ``scales`` [tokens] that give it length 1 (float32). Level l
    of document i is group g = i * levels + l, its tokens those from ``starts[g]`` to ``starts[g + 1]``; none is empty.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]
    starts: NDArray[np.int64]
    levels: int

    def __len__(self) -> int:
        return (len(self.starts) - 1) // self.levels

    @property
    def dims(self) -> int:
        """The dimensions of the space."""
        return int(self.codes.shape[1])

    @property
    def document_starts(self) -> NDArray[np.int64]:
        """The first token of every document, and the end."""
        return self.starts[:: self.levels]

    def taken(self, rows: NDArray[np.int64]) -> Tokens:
        """These documents alone, in this order."""
        groups = (rows[:, None] * self.levels + np.arange(self.levels)).ravel()
        begin, lengths = self.starts[groups], self.starts[groups + 1] - self.starts[groups]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        tokens = np.arange(starts[-1]) + np.repeat(begin - starts[:-1], lengths)
        return Tokens(self.codes[tokens], self.scales[tokens], starts, self.levels)


def encoded(vectors: NDArray[np.floating]) -> NDArray[np.int8]:
    """The codes of vectors [n, dims]: the largest coordinate of each becomes 127. Their codes again are the same."""
    exact = np.asarray(vectors, np.float64)
    largest = np.abs(exact).max(axis=1, keepdims=True)
    if not (np.isfinite(largest).all() and (largest > 0).all()):
        raise ValueError("a vector is zero or not finite")
    codes: NDArray[np.int8] = np.rint(exact * (LARGEST_CODE / largest)).astype(np.int8)
    return codes


def decoded(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """The unit vectors of codes [n, dims]."""
    vectors: NDArray[np.float32] = (codes / _lengths(codes)[:, None]).astype(np.float32)
    return vectors


def scales_of(codes: NDArray[np.int8]) -> NDArray[np.float32]:
    """By what to multiply codes [n, dims] so that each has length 1."""
    scales: NDArray[np.float32] = (1 / _lengths(codes)).astype(np.float32)
    return scales


def _lengths(codes: NDArray[np.int8]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.sqrt(np.square(codes, dtype=np.int32).sum(axis=1, dtype=np.int64))
    return lengths
