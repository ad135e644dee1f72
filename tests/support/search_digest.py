"""Prints a digest of search results for some block sizes, a line a size: run under several BLAS kernels and threads.

A line is a digest of results, then one of plain fp32 products, which is what depends on all that.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator

import numpy as np

from tests.support.vectors import asked, clustered
from transforms.search.late_interaction import search_tokens
from transforms.search.pack import Pack, open_pack
from transforms.search.pooling import pooled_by_ward
from transforms.search.top_k import Hits, top_k


def digests(pack: Pack) -> Iterator[tuple[str, str]]:
    """Of single vectors on both grids, late interaction in one stage and in two, and Ward's clusters."""
    questions, documents = clustered(3000, 40, 96)
    several = asked(5, 8, pack.dims)
    wanted = list(range(len(questions)))
    for block, tile, columns in ((1, 100, 1), (7, 1024, 20), (40, 4000, 500)):
        hits = [
            *top_k(questions, documents, 200, "grid64", wanted, block=block, tile=tile),
            *top_k(questions, documents, 200, "grid32", wanted, block=block, tile=tile),
            *search_tokens(pack.tokens, None, several, 50, 100, wanted, columns=columns, block=tile),
            *search_tokens(pack.tokens, pack.pooled, several, 50, 100, wanted, columns=columns, block=tile),
        ]
        parts = [*_parts(hits), pooled_by_ward(documents[:200], 20)]
        plain = [questions[start : start + block] @ documents.T for start in range(0, len(questions), block)]
        yield _digest(parts), _digest(plain)


def _parts(hits: Iterable[Hits]) -> Iterator[np.ndarray]:
    for hit in hits:
        yield from (hit.rows, hit.scores, np.float64(hit.wanted))


def _digest(arrays: Iterable[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()[:16]


if __name__ == "__main__":
    for line in digests(open_pack(sys.argv[1])):
        print(*line)
