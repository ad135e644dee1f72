"""First stage: a run made elsewhere, in TREC format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from schemas.fingerprint import fingerprint
from schemas.query import Candidate
from schemas.video import EngineStamp
from transforms.protocols.engine import EngineError, stamp_of
from transforms.storage.files import digest, exists
from transforms.storage.trec import read_run


@dataclass(frozen=True)
class TrecRun:
    """The run in the file ``path``, looked up by query id.

    Raises:
        ValueError: there is no such file.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    reads_text: ClassVar[bool] = False

    path: str

    def __post_init__(self) -> None:
        if not exists(self.path):
            raise ValueError(f"no run file at {self.path!r}; give the path of a TREC run (qid Q0 docid rank score tag)")

    def check(self) -> None:
        """Read the run once, so that a broken one is found before any work. Raises ``EngineError``."""
        try:
            read_run(self.path)
        except (OSError, ValueError) as error:
            raise EngineError(
                f"first_stage engine 'trec': {error}; 'path' must be a TREC run (qid Q0 docid rank score tag)"
            ) from error

    def load(self) -> TrecIndexer:
        """Read the whole run. Raises ``transforms.storage.trec.TrecError`` with file and line where it is not one."""
        return TrecIndexer(read_run(self.path))

    def stamp(self) -> EngineStamp:
        """Stamped with the hash of the file, wherever it lies."""
        content = digest(self.path)[0][:16]
        return replace(stamp_of(self, "trec", "", content), fingerprint=fingerprint(["trec", content]))


@dataclass(frozen=True)
class TrecIndexer:
    """Restricts a run to the videos at hand."""

    run: Mapping[str, Sequence[Candidate]]

    def index(self, documents: Iterable[tuple[str, str]]) -> TrecIndex:
        """A first stage over the videos of ``documents``; their texts are not looked at."""
        return TrecIndex(self.run, frozenset(video_id for video_id, _ in documents))


@dataclass(frozen=True)
class TrecIndex:
    """A run over the videos ``ids``."""

    run: Mapping[str, Sequence[Candidate]]
    ids: frozenset[str]

    def search(self, query_id: str, text: str, depth: int) -> list[Candidate]:
        """The ``depth`` best videos of the query that are at hand, ranked anew; empty where the run lacks the query."""
        known = [candidate for candidate in self.run.get(query_id, ()) if candidate.video_id in self.ids][:depth]
        return [Candidate(c.video_id, rank, c.score) for rank, c in enumerate(known, start=1)]
