import pickle
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from ranking_records import ENGINE, candidates, query, video

from schemas.query import Candidate
from schemas.video import AsrSegment, EngineStamp, Evidence, Metadata
from transforms.engines.bm25 import Bm25
from transforms.mine.retrieve import Ranking, RetrieveCandidates, document_text, rank_candidates

VIDEOS = [
    video("pos", "a flood closed the bridge"),
    video("near", "a flood closed a school"),
    video("far", "bread"),
    video("unseen", "a flood closed the bridge", frames=0),
]


def test_a_document_is_the_chosen_modalities_of_the_evidence():
    evidence = Evidence("a bridge", (AsrSegment(0, 1, "hello", 1.0),), metadata=Metadata("Title", "Text"))
    assert document_text(evidence) == "a bridge\nhello\nTitle\nText"
    assert document_text(evidence, ("metadata", "caption")) == "Title\nText\na bridge"
    assert document_text(evidence, ("ocr",)) == ""


def test_a_ranking_names_the_querys_own_video_where_it_was_found():
    index = Bm25().load().index([(v.video_id, v.evidence.caption) for v in VIDEOS[:3]])
    ranking = rank_candidates(query(), index, 10)
    assert [c.video_id for c in ranking.candidates] == ["pos", "near"]
    assert ranking.positive == ranking.candidates[0]
    assert rank_candidates(query(video_id="far"), index, 10).positive is None
    assert len(rank_candidates(query(), index, 1).candidates) == 1


@pytest.mark.parametrize("videos", [VIDEOS, VIDEOS[::-1]])
def test_the_corpus_is_the_videos_with_frames_in_any_order(videos):
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        queries = pipeline | "Queries" >> beam.Create([query(), query("q2", "far", "banana")])
        corpus = pipeline | "Videos" >> beam.Create(videos)
        rankings = (queries, corpus) | RetrieveCandidates(Bm25())
        found = rankings | beam.Map(
            lambda r: (r.query.query_id, [c.video_id for c in r.candidates], r.positive and r.positive.rank)
        )
        assert_that(found, equal_to([("q", ["pos", "near"], 1), ("q2", [], None)]))


built: list[int] = []
lock = threading.Lock()


@dataclass(frozen=True)
class Counting:
    """A first stage that counts how often it is built, and says how many documents it has."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    def load(self) -> "Counting":
        return self

    def stamp(self) -> EngineStamp:
        return ENGINE

    def index(self, documents: Iterable[tuple[str, str]]) -> "Sized":
        with lock:
            built.append(1)
        return Sized(len(list(documents)))


@dataclass(frozen=True)
class Sized:
    size: int

    def search(self, query_id: str, text: str, depth: int) -> list[Candidate]:
        return list(candidates(("pos", float(self.size))))


def test_the_index_is_built_once_for_all_threads_and_bundles():
    built.clear()
    flags = ["--direct_running_mode=multi_threading", "--direct_num_workers=3"]
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(flags)) as pipeline:
        queries = pipeline | "Queries" >> beam.Create([query(f"q{i}") for i in range(40)]) | beam.Reshuffle()
        corpus = pipeline | "Videos" >> beam.Create(VIDEOS)
        sizes = (queries, corpus) | RetrieveCandidates(Counting()) | beam.Map(lambda r: r.positive.score)
        assert_that(sizes, equal_to([3.0] * 40))
    assert len(built) == 1


def test_a_later_run_in_the_same_process_has_its_own_index():
    for count in (1, 2):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            queries = pipeline | "Queries" >> beam.Create([query()])
            corpus = pipeline | "Videos" >> beam.Create(VIDEOS[:count])
            sizes = (queries, corpus) | RetrieveCandidates(Counting()) | beam.Map(lambda r: r.positive.score)
            assert_that(sizes, equal_to([float(count)]))


def test_rankings_travel():
    ranking = Ranking(query(), candidates(("pos", 1.0)), None)
    assert pickle.loads(pickle.dumps(ranking)) == ranking
