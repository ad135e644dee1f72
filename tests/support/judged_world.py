"""Queries with judgements drawn at random, for the tests of curation."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from schemas.query import Judgement, Label, Query
from tests.support.ranking_records import judgement, query

_LABELS: tuple[Label, Label] = ("no", "yes")


def judged_world(queries: int = 200, seed: int = 7) -> Iterator[tuple[Query, list[Judgement]]]:
    """Queries, each with up to twelve judgements in no order; most have their own video's among them."""
    rng = random.Random(seed)
    for number in range(queries):
        query_id = f"q{number:03}"
        found = [judgement(f"v{rank}", *_said(rng), rank) for rank in range(1, rng.randint(2, 12))]
        if rng.random() < 0.9:
            found.append(judgement("pos", *_said(rng, yes=0.8), rng.randint(1, 9), is_positive=True))
        rng.shuffle(found)
        yield query(query_id), [replace(one, query_id=query_id) for one in found]


def _said(rng: random.Random, yes: float = 0.3) -> tuple[Label, float | None]:
    """A label and a margin of its sign, but for some yes, which contradict theirs; some have none."""
    label = _LABELS[rng.random() < yes]
    sign = -1 if label == "no" or rng.random() < 0.2 else 1
    delta = sign * abs(round(rng.gauss(5.0, 4.0), 6))
    return label, None if rng.random() < 0.1 else delta
