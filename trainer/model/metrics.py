"""Measures of a ranked list."""

from __future__ import annotations

import math
from collections.abc import Sequence


def ndcg(scores: Sequence[float], labels: Sequence[int], depth: int = 10) -> float:
    """nDCG at ``depth`` with binary gains, of one query; 0 where nothing is relevant.

    Among equal scores the relevant ones come last, so that a model that tells nothing apart earns nothing by it.
    """
    order = sorted(zip(scores, labels, strict=True), key=lambda pair: (-pair[0], pair[1]))
    gained = sum(label / math.log2(rank + 2) for rank, (_, label) in enumerate(order[:depth]))
    best = sum(1 / math.log2(rank + 2) for rank in range(min(depth, sum(labels))))
    return gained / best if best else 0.0
