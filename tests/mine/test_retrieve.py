import pickle
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from schemas.query import Candidate, Place
from schemas.video import AsrSegment, EngineStamp, Evidence, Metadata
from tests.support.ranking_records import ENGINE, candidates, query, video
from transforms.engines.bm25 import Bm25
from transforms.mine.documents import FieldWeights, document_text
from transforms.mine.retrieve import Ranking, RetrieveByText, Retrieved, ranking_of, search

VIDEOS = [
    video("pos", "a flood closed the bridge"),
    video("near", "a flood closed a school"),
    video("far", "bread"),
    video("unseen", "a flood closed the bridge", frames=0),
]


def test_a_document_has_each_field_of_the_evidence_as_often_as_its_weight_says():
    evidence = Evidence("a bridge", (AsrSegment(0, 1, "hello", 1.0),), metadata=Metadata("Title", "Text"))
    assert document_text(evidence) == "a bridge\nhello\nTitle\nText"
    assert document_text(evidence, FieldWeights(asr=0, metadata=2)) == "a bridge\nTitle\nText\nTitle\nText"
    assert document_text(evidence, FieldWeights(caption=0, asr=0, metadata=0)) == ""
    with pytest.raises(ValueError, match="fields must leave at least one of weight above 0"):
        FieldWeights(0, 0, 0, 0)


def test_a_word_of_a_field_with_more_weight_counts_more():
    said, shown = Evidence(caption="flood"), Evidence(metadata=Metadata("flood"))
    for weights, best in ((FieldWeights(caption=3), "said"), (FieldWeights(metadata=3), "shown")):
        texts = [(name, document_text(each, weights)) for name, each in (("said", said), ("shown", shown))]
        index = Bm25().load().index([*texts, ("other", "a bridge and a school")])
        assert index.search("q", "flood", 1)[0].video_id == best


def test_a_ranking_names_the_querys_own_video_where_it_was_found():
    index = Bm25().load().index([(v.video_id, v.evidence.caption) for v in VIDEOS[:3]])
    ranking = ranking_of(query(), search(query(), index, 10))
    assert [c.video_id for c in ranking.candidates] == ["pos", "near"]
    assert ranking.positive == ranking.candidates[0]
    assert ranking_of(query(video_id="far"), search(query(), index, 10)).positive is None
    assert len(search(query(), index, 1)) == 1


def test_a_ranking_tells_where_each_run_has_a_video():
    runs = ("words", candidates(("pos", 9.0), ("a", 3.0))), ("dense", candidates(("a", 0.9)))
    ranking = ranking_of(query(), candidates(("a", 2.0), ("pos", 1.0)), runs)
    assert ranking.places("a") == (Place("words", 2, 3.0), Place("dense", 1, 0.9))
    assert ranking.places("pos") == (Place("words", 1, 9.0),)
    assert ranking.places("b") == ()
    assert ranking.run("dense") == runs[1][1]
    assert ranking.run(None) == ranking.candidates


def test_a_query_s_own_video_has_a_score_and_no_rank_behind_the_last_candidate():
    runs = (("words", candidates(("pos", 2.0))), ("dense", candidates(("a", 0.9))), ("other", candidates(("b", 1.0))))
    found = Retrieved(query())
    for (name, run), own in zip(runs, (None, 0.25, None), strict=True):
        found = found.and_run(name, run, own)
    ranking = ranking_of(found.query, found.runs[0][1], found.runs, found.own)

    assert ranking.places("pos") == (Place("words", 1, 2.0), Place("dense", None, 0.25))
    assert ranking.places("a") == (Place("dense", 1, 0.9),)


@pytest.mark.parametrize("videos", [VIDEOS, VIDEOS[::-1]])
def test_the_corpus_is_the_videos_with_frames_in_any_order(videos):
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        queries = pipeline | "Queries" >> beam.Create([Retrieved(query()), Retrieved(query("q2", "far", "banana"))])
        corpus = pipeline | "Videos" >> beam.Create(videos)
        first = (queries, corpus) | "First" >> RetrieveByText("words", Bm25())
        second = (first, corpus) | "Second" >> RetrieveByText("one", Bm25(), 1)
        found = second | beam.Map(
            lambda r: (r.query.query_id, [(name, [c.video_id for c in run]) for name, run in r.runs])
        )
        expected = [("q", [("words", ["pos", "near"]), ("one", ["pos"])]), ("q2", [("words", []), ("one", [])])]
        assert_that(found, equal_to(expected))


def test_an_engine_that_reads_no_text_is_sent_none():
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        queries = pipeline | "Queries" >> beam.Create([Retrieved(query())])
        corpus = pipeline | "Videos" >> beam.Create(VIDEOS)
        found = (queries, corpus) | RetrieveByText("words", Bm25(), 10, None) | beam.Map(lambda r: len(r.runs[0][1]))
        assert_that(found, equal_to([0]))


def score(found: Retrieved) -> float:
    """That of the first candidate."""
    return found.runs[0][1][0].score


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
        queries = pipeline | beam.Create([Retrieved(query(f"q{i}")) for i in range(40)]) | beam.Reshuffle()
        corpus = pipeline | "Videos" >> beam.Create(VIDEOS)
        sizes = (queries, corpus) | RetrieveByText("size", Counting()) | beam.Map(score)
        assert_that(sizes, equal_to([3.0] * 40))
    assert len(built) == 1


def test_a_later_run_in_the_same_process_has_its_own_index():
    for count in (1, 2):
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            queries = pipeline | "Queries" >> beam.Create([Retrieved(query())])
            corpus = pipeline | "Videos" >> beam.Create(VIDEOS[:count])
            sizes = (queries, corpus) | RetrieveByText("size", Counting()) | beam.Map(score)
            assert_that(sizes, equal_to([float(count)]))


def test_rankings_travel():
    ranking = Ranking(query(), candidates(("pos", 1.0)), None, (("words", candidates(("pos", 1.0))),))
    assert pickle.loads(pickle.dumps(ranking)) == ranking
