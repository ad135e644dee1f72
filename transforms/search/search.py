"""Searching a pack: the best videos for many queries, exact, with ties in the order of ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np

from schemas.configuration.section import Section
from schemas.query import Candidates
from transforms.protocols.embed import Embedding
from transforms.search.grid import GridName
from transforms.search.late_interaction import search_tokens
from transforms.search.pack import Pack
from transforms.search.top_k import Hits, top_k


class SearchOptions(Section, frozen=True):
    """How a pack is searched. ``grid`` is for single vectors: grid32 is twice as fast, and 1e-4 off (see ``grid``).

    Where documents have several vectors and there are ``exhaustive_below`` of them or more, the ``first`` best by
    pooled vectors are scored in full (see ``late_interaction``), or as many as candidates are asked for, if more.
    """

    grid: GridName = "grid64"
    first: Annotated[int, msgspec.Meta(ge=1)] = 2000
    exhaustive_below: Annotated[int, msgspec.Meta(ge=0)] = 20_000


@dataclass(frozen=True, slots=True)
class Found:
    """What a query finds: its candidates, which do not depend on its positive, and the positive's own score.

    ``positive_score`` is known wherever the positive ranks, also behind the last candidate, where it has no rank; None
    where no positive was named or the pack does not hold it.
    """

    candidates: Candidates
    positive_score: float | None


def search_many(
    pack: Pack,
    queries: Sequence[Embedding],
    depth: int,
    options: SearchOptions,
    positives: Sequence[str | None] = (),
) -> list[Found]:
    """The ``depth`` best videos of ``pack`` for each query, best first, ties by id; a query alone gives the same.

    ``positives`` names a video a query whose score is told in any case.

    Raises:
        ValueError: a query has other dimensions than the pack.
    """
    if positives and len(positives) != len(queries):
        raise ValueError(f"{len(positives)} positives for {len(queries)} queries")
    if not len(pack):
        return [Found(Candidates(), None) for _ in queries]
    for query in queries:
        if query.dims != pack.dims:
            raise ValueError(f"a query of {query.dims} dimensions for a pack of {pack.dims}: they are of two spaces")
    wanted = [None if video_id is None else pack.row_of(video_id) for video_id in positives] or [None] * len(queries)
    return [_found(pack, hits) for hits in _hits(pack, queries, depth, options, wanted)]


def _hits(
    pack: Pack, queries: Sequence[Embedding], depth: int, options: SearchOptions, wanted: Sequence[int | None]
) -> list[Hits]:
    """How a query is searched depends on it and the pack alone, never on the queries beside it."""
    vectors = pack.vectors
    single = [vectors is not None and len(query.vectors) == 1 for query in queries]
    hits: dict[int, Hits] = {}
    if vectors is not None and any(single):
        at = [place for place, one in enumerate(single) if one]
        asked = np.concatenate([queries[place].vectors for place in at])
        hits |= zip(at, top_k(asked, vectors, depth, options.grid, [wanted[place] for place in at]), strict=True)
    if not all(single):
        at = [place for place, one in enumerate(single) if not one]
        pooled = pack.pooled if len(pack) >= options.exhaustive_below else None
        several, own = [queries[place].vectors for place in at], [wanted[place] for place in at]
        hits |= zip(at, search_tokens(pack.tokens, pooled, several, depth, options.first, own), strict=True)
    return [hits[place] for place in range(len(queries))]


def _found(pack: Pack, hits: Hits) -> Found:
    candidates = Candidates([pack.ids[row] for row in hits.rows.tolist()], hits.scores.tolist())
    return Found(candidates, None if hits.wanted is None else float(hits.wanted))
