"""Retrieval: the first stage's candidates for each query, over all videos that a reranker could look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.utils.shared import Shared

from schemas.query import Candidate, Candidates, Query
from schemas.video import MODALITIES, Evidence, Modality, Video
from transforms.protocols.engine import loaded
from transforms.protocols.first_stage import FirstStage, FirstStageEngine


@dataclass(frozen=True, slots=True)
class Ranking:
    """A query's candidates, and the one among them that is its own video (None where it was not found)."""

    query: Query
    candidates: Candidates
    positive: Candidate | None


def document_text(evidence: Evidence, modalities: Sequence[Modality] = MODALITIES) -> str:
    """What the first stage reads of a video: the texts of ``modalities``, joined by newlines; may be empty."""
    texts = (evidence.text(modality) for modality in modalities)
    return "\n".join(text for text in texts if text.strip())


def rank_candidates(query: Query, first_stage: FirstStage, depth: int) -> Ranking:
    """The ``depth`` best candidates for ``query``."""
    candidates = Candidates.of(first_stage.search(query.query_id, query.text, depth))
    return Ranking(query, candidates, candidates.find(query.video_id))


@dataclass
class RetrieveCandidates(beam.PTransform):
    """(queries: Query, videos: Video) -> Ranking, with the ``depth`` best candidates of each query.

    The corpus is the videos with frames; the others could not be reranked. Its texts travel as one side input, which
    a worker process reads only once, when it builds the index that its threads and bundles then share.
    """

    engine: FirstStageEngine
    depth: int = 1000
    modalities: tuple[Modality, ...] = MODALITIES

    def expand(self, inputs: tuple[beam.PCollection[Query], beam.PCollection[Video]]) -> beam.PCollection[Ranking]:
        queries, videos = inputs
        documents = (
            videos
            | "With frames" >> beam.Filter(lambda video: video.frame_count > 0)
            | "Text" >> beam.Map(lambda video: (video.video_id, document_text(video.evidence, self.modalities)))
        )
        # AsIter and not AsList: a list would be read from the runner anew for every bundle.
        return queries | "Search" >> beam.ParDo(_Search(self.engine, self.depth), beam.pvalue.AsIter(documents))


class _Search(beam.DoFn):
    """Query -> Ranking against the index of the side input."""

    def __init__(self, engine: FirstStageEngine, depth: int) -> None:
        self.engine = engine
        self.depth = depth
        self.shared = Shared()  # one index a process, whatever the number of copies of this DoFn

    def process(self, query: Query, documents: Iterable[tuple[str, str]]) -> Iterable[Ranking]:
        first_stage = self.shared.acquire(lambda: loaded(self.engine).index(documents))
        yield rank_candidates(query, first_stage, self.depth)
