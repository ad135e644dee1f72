"""Retrieval: the candidates of each query by each run, over all videos that a reranker could look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.utils.shared import Shared

from schemas.query import Candidate, Candidates, Place, Query
from schemas.video import Video
from transforms.mine.documents import EVEN, FieldWeights, document_text
from transforms.protocols.engine import loaded
from transforms.protocols.first_stage import FirstStage, FirstStageEngine

Runs = tuple[tuple[str, Candidates], ...]  # by name, in the recipe's order


@dataclass(frozen=True, slots=True)
class Retrieved:
    """A query and what the runs so far have found for it; ``own`` are the scores of its video, where a run knows them.

    A run over vectors does, also where the video stands behind the last of its candidates.
    """

    query: Query
    runs: Runs = ()
    own: tuple[tuple[str, float], ...] = ()

    def and_run(self, name: str, candidates: Candidates, own: float | None = None) -> Retrieved:
        """With one run more."""
        scores = self.own if own is None else (*self.own, (name, own))
        return Retrieved(self.query, (*self.runs, (name, candidates)), scores)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A query's candidates, and the one among them that is its own video (None where it was not found).

    ``runs`` are those that the candidates were fused from, or the one run that they are; ``own`` as in ``Retrieved``.
    """

    query: Query
    candidates: Candidates
    positive: Candidate | None
    runs: Runs = ()
    own: tuple[tuple[str, float], ...] = ()

    def run(self, name: str | None) -> Candidates:
        """The candidates of one run; those of the ranking where there is no name."""
        return self.candidates if name is None else dict(self.runs)[name]

    def places(self, video_id: str) -> tuple[Place, ...]:
        """A video's places in the runs that found it; of the query's own, in those that know its score."""
        own = dict(self.own) if video_id == self.query.video_id else {}
        found = ((name, candidates.find(video_id)) for name, candidates in self.runs)
        return tuple(
            Place(name, one.rank, one.score) if one is not None else Place(name, None, own[name])
            for name, one in found
            if one is not None or name in own
        )


def ranking_of(
    query: Query, candidates: Candidates, runs: Runs = (), own: tuple[tuple[str, float], ...] = ()
) -> Ranking:
    """The ranking of a query that has these candidates."""
    return Ranking(query, candidates, candidates.find(query.video_id), runs, own)


def search(query: Query, first_stage: FirstStage, depth: int) -> Candidates:
    """The ``depth`` best candidates for ``query``."""
    return Candidates.of(first_stage.search(query.query_id, query.text, depth))


@dataclass
class RetrieveByText(beam.PTransform):
    """(Retrieved, Video) -> Retrieved with one run more, of the ``depth`` best candidates by the videos' texts.

    The corpus is the videos with frames; the others could not be reranked. Its texts travel as one side input, which
    a worker process reads only once, when it builds the index that its threads and bundles then share. Without
    ``weights`` the texts are empty, for an engine that does not read them.
    """

    name: str
    engine: FirstStageEngine
    depth: int = 1000
    weights: FieldWeights | None = EVEN

    def expand(
        self, inputs: tuple[beam.PCollection[Retrieved], beam.PCollection[Video]]
    ) -> beam.PCollection[Retrieved]:
        queries, videos = inputs
        documents = (
            videos
            | "With frames" >> beam.Filter(lambda video: video.frame_count > 0)
            | "Text" >> beam.Map(lambda video: (video.video_id, self._text(video)))
        )
        # AsIter and not AsList: a list would be read from the runner anew for every bundle.
        step = beam.ParDo(_Search(self.name, self.engine, self.depth), beam.pvalue.AsIter(documents))
        return queries | "Search" >> step

    def _text(self, video: Video) -> str:
        return document_text(video.evidence, self.weights) if self.weights else ""


class _Search(beam.DoFn):
    """Retrieved -> Retrieved, by the index of the side input."""

    def __init__(self, name: str, engine: FirstStageEngine, depth: int) -> None:
        self.name = name
        self.engine = engine
        self.depth = depth
        self.shared = Shared()  # one index a process, whatever the number of copies of this DoFn

    def process(self, found: Retrieved, documents: Iterable[tuple[str, str]]) -> Iterable[Retrieved]:
        first_stage = self.shared.acquire(lambda: loaded(self.engine).index(documents))
        yield found.and_run(self.name, search(found.query, first_stage, self.depth))
