from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from pipeline.human import HumanQuery, PlaceHumanQueries, read_human_queries, with_positive
from pipeline.stage import LedgerBuilder
from schemas.losses import Loss
from schemas.query import Query


@pytest.fixture
def files(tmp_path):
    def write(queries, qrels):
        (tmp_path / "q.tsv").write_text(queries)
        (tmp_path / "qrels").write_text(qrels)
        return str(tmp_path / "q.tsv"), str(tmp_path / "qrels")

    return write


def test_queries_are_read_with_the_videos_that_answer_them(files):
    paths = files("h1\twho opened the bridge\n", "h1 0 c 2\nh1 0 a 1\nh1 0 b 0\nother 0 a 1\n")

    assert read_human_queries(*paths) == (HumanQuery("h1", "who opened the bridge", (("a", 1), ("c", 2))),)


def test_a_query_without_a_relevant_video_is_read_and_has_no_grades(files):
    _, second = read_human_queries(*files("h1\twho opened it\nh2\twhere was the fire\n", "h1 0 a 1\nh2 0 a 0\n"))

    assert second == HumanQuery("h2", "where was the fire", ())


def test_queries_and_qrels_that_have_nothing_in_common_are_refused(files):
    with pytest.raises(ValueError, match=r"no relevant video for any query of .*q\.tsv; do their ids agree"):
        read_human_queries(*files("h1\twho opened it\nh2\twhere was the fire\n", "1 0 a 1\nh2 0 a 0\n"))


def test_two_queries_of_the_same_text_are_refused(files):
    with pytest.raises(ValueError, match="'h1' and 'h2' have the same text"):
        read_human_queries(*files("h1\tWho opened  it\nh2\twho opened it\n", "h1 0 a 1\nh2 0 b 1\n"))


def test_an_id_that_hardquery_gives_to_written_queries_is_refused_with_the_command_that_helps(files):
    written = Query.id_of("a", "caption", "who opened it")
    queries, qrels = files(f"{written}\twho opened it\n", f"{written} 0 a 1\n")

    with pytest.raises(ValueError, match=r"sed -i 's/\^q-/people-/'"):
        read_human_queries(queries, qrels)


def test_other_ids_that_begin_alike_are_peoples_own(files):
    [query] = read_human_queries(*files("q-12\twho opened it\n", "q-12 0 a 1\n"))

    assert with_positive(query, {}, {"a": True}).query_id == "q-12"


def test_the_positive_is_the_most_relevant_video_that_is_present():
    human = HumanQuery("h1", "who opened it", (("a", 1), ("b", 2), ("c", 2), ("gone", 3)))

    query = with_positive(human, {}, {"a": True, "b": True, "c": True})

    grades = (("a", 1), ("b", 2), ("c", 2), ("gone", 3))
    assert query == Query("h1", "b", "who opened it", "human", also_relevant=("a", "c", "gone"), grades=grades)


def test_a_dropped_copy_stands_for_the_video_that_was_kept():
    human = HumanQuery("h1", "who opened it", (("a", 2), ("copy", 1)))

    query = with_positive(human, {"copy": "r"}, {"a": True, "r": True})

    assert (query.video_id, query.also_relevant) == ("a", ("r",))


def test_without_any_video_the_most_relevant_one_is_named():
    assert with_positive(HumanQuery("h1", "who", (("x", 1), ("y", 2))), {}, {}).video_id == "y"


def test_a_query_without_a_relevant_video_is_a_rejection_and_the_others_go_on():
    ledger = LedgerBuilder()
    queries = (HumanQuery("h1", "who opened it", (("a", 1),)), HumanQuery("h2", "where was the fire", ()))
    with TestPipeline() as pipeline:
        videos = pipeline | "Videos" >> beam.Create([SimpleNamespace(video_id="a")])
        aliases = pipeline | "Aliases" >> beam.Create([("copy", "a")])
        placed = (videos, aliases) | PlaceHumanQueries(queries, ledger)
        assert_that(placed, equal_to([Query("h1", "a", "who opened it", "human", grades=(("a", 1),))]), label="placed")
        rejection = Loss(
            "rejected",
            "synthesize",
            "people",
            "no relevant video",
            "its qrels name none: where was the fire",
            query_id="h2",
        )
        assert_that(ledger.losses[0], equal_to([rejection]), label="rejected")

    assert ledger.steps == [("synthesize", "people")]
