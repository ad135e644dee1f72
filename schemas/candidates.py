"""The ranked candidates of one query, kept as ids and scores: rankings are the bulk of what a run moves."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from schemas.check import require
from schemas.query import Candidate


class Candidates(Sequence[Candidate]):
    """Candidates, best first, ranks from 1; each is made when it is asked for.

    Two orders of magnitude cheaper to encode than as many records, and half their size.
    """

    __slots__ = ("_scores", "_video_ids")

    def __init__(self, video_ids: Iterable[str] = (), scores: Iterable[float] = ()) -> None:
        self._video_ids = tuple(video_ids)
        self._scores = array("d", scores)
        same = len(self._video_ids) == len(self._scores)
        require(same, "every candidate has one score", (len(self._video_ids), len(self._scores)))
        require(all(map(math.isfinite, self._scores)), "first-stage scores must be finite", self._scores)

    @classmethod
    def of(cls, ranked: Sequence[Candidate]) -> Candidates:
        """The same candidates; they must be in the order of their ranks, which count from 1."""
        if isinstance(ranked, Candidates):
            return ranked
        ranks = [candidate.rank for candidate in ranked]
        require(ranks == list(range(1, len(ranks) + 1)), "ranks count from 1, best first", ranks)
        return cls((candidate.video_id for candidate in ranked), (candidate.score for candidate in ranked))

    def find(self, video_id: str) -> Candidate | None:
        """The candidate that is this video, if any."""
        if video_id not in self._video_ids:
            return None
        return self[self._video_ids.index(video_id)]

    @overload
    def __getitem__(self, at: int) -> Candidate: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, at: int | slice) -> Candidate | tuple[Candidate, ...]:
        if isinstance(at, slice):
            return tuple(self[index] for index in range(*at.indices(len(self))))
        index = range(len(self))[at]
        return Candidate(self._video_ids[index], index + 1, self._scores[index])

    def __iter__(self) -> Iterator[Candidate]:
        for rank, (video_id, score) in enumerate(zip(self._video_ids, self._scores, strict=True), start=1):
            yield Candidate(video_id, rank, score)

    def __len__(self) -> int:
        return len(self._video_ids)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Candidates):
            return (self._video_ids, self._scores) == (other._video_ids, other._scores)
        return NotImplemented

    def __hash__(self) -> int:
        return hash((self._video_ids, self._scores.tobytes()))

    def __repr__(self) -> str:
        return f"Candidates({self._video_ids!r}, {list(self._scores)!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _unpacked, ("\n".join(self._video_ids), self._scores.tobytes())


def _unpacked(video_ids: str, scores: bytes) -> Candidates:
    """What was pickled: ids one a line, which hold no white space, and 64-bit floats."""
    found = Candidates.__new__(Candidates)
    found._video_ids = tuple(video_ids.split("\n")) if scores else ()
    found._scores = array("d")
    found._scores.frombytes(scores)
    return found
