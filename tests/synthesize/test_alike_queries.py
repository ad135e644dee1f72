"""Queries that ask in other words for what a test set asks for, by vectors that a table gives."""

from __future__ import annotations

from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.config import RecipeError, load_recipe
from pipeline.engines import find_engines
from schemas.losses import Loss
from schemas.query import Query, QueryText
from transforms.decontaminate.alike import DropAlike, Packs, TestQuery, alike
from transforms.decontaminate.test_sets import AlikeQueries, TestSet
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import Failed, RecordedFailure
from transforms.protocols.embed import Embedding

ANGLES = {"flood in Lyon": 0, "a river leaves its bed there": 20, "trams of Lyon": 40, "a bakery": 90, "bread": 88}


def vectors_of(query: QueryText) -> Embedding:
    """A vector of two dimensions at the angle of a text, in degrees; "late" waits, and "torn" fails."""
    if query.text == "late":
        raise Deferred("max calls")
    if query.text == "torn":
        raise RecordedFailure(Failed("EngineFailed", "out of memory", permanent=False), ())
    angle = np.deg2rad(ANGLES[query.text])
    return Embedding.of(np.array([np.cos(angle), np.sin(angle)]))


def asked(*texts: str) -> list[Query]:
    return [Query(f"q{n}", f"v{n}", text, "human") for n, text in enumerate(texts)]


@pytest.fixture
def test_set(tmp_path: Path) -> TestSet:
    (tmp_path / "queries.tsv").write_text("t1\tflood in Lyon\nt2\ta bakery\n")
    return TestSet("bench", queries=str(tmp_path / "queries.tsv"), vectors=AlikeQueries("dense", 0.9))


def packs_of(test_set: str, *texts: str) -> Packs:
    queries = [TestQuery(test_set, QueryText(f"t{n}", text)) for n, text in enumerate(texts)]
    return Packs([(query, vectors_of(query.asked)) for query in queries])


def test_the_nearest_test_query_is_told_with_its_cosine_where_that_is_high_enough():
    packs, rules = packs_of("bench", "a bakery", "flood in Lyon"), {"bench": AlikeQueries("dense", 0.9)}
    river = vectors_of(QueryText("q", "a river leaves its bed there"))

    assert alike(river, packs, rules) == "bench: query t1: a cosine of 0.940 by dense: flood in Lyon"
    assert alike(river, packs, {"bench": AlikeQueries("dense", 0.95)}) is None
    assert alike(river, packs, {"other": AlikeQueries("dense", 0.1)}) is None


def test_a_query_of_several_vectors_is_compared_by_the_mean_of_what_each_finds():
    both = Embedding.of(np.array([[1.0, 0.0], [0.0, 1.0]]))
    packs = Packs([(TestQuery("bench", QueryText("t", "both")), both)])

    found = alike(vectors_of(QueryText("q", "trams of Lyon")), packs, {"bench": AlikeQueries("dense", 0.7)})
    assert str(found).startswith("bench: query t: a cosine of 0.76")
    assert str(alike(both, packs, {"bench": AlikeQueries("dense")})).startswith(
        "bench: query t: a cosine of 1.000 by dense"
    )


def test_what_is_alike_is_dropped_with_the_test_query_and_what_cannot_be_embedded_is_lost(test_set, tmp_path):
    queries = asked("a river leaves its bed there", "trams of Lyon", "late", "torn", "bread")
    step = ("synthesize", "decontaminate")
    near = "bench: query {}: a cosine of {} by dense: {}"
    expected = [
        Loss("rejected", *step, "in test set", near.format("t1", "0.940", "flood in Lyon"), "v0", "q0"),
        Loss("deferred", *step, "max calls", "", "v2", "q2"),
        Loss("failed", *step, "EngineFailed", "out of memory", "v3", "q3"),
        Loss("rejected", *step, "in test set", near.format("t2", "0.999", "a bakery"), "v4", "q4"),
    ]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        drop = DropAlike("dense", [test_set], vectors_of, None, Journal(str(tmp_path / "cache")))
        found = pipeline | beam.Create(queries) | drop
        assert_that(found["queries"], equal_to([queries[1]]), "kept")
        assert_that(found["losses"], equal_to(expected), "losses")
        assert_that(found["tests"] | beam.Map(lambda test: test.asked.query_id), equal_to(["t1", "t2"]), "tests")


@pytest.mark.parametrize(("look_only", "kept"), [(False, []), (True, ["q0", "q1"])])
def test_where_a_test_query_waits_all_queries_do_and_a_plan_lets_them_pass(look_only, kept, tmp_path):
    (tmp_path / "queries.tsv").write_text("t1\tflood in Lyon\nt2\tlate\n")
    test_set = TestSet("bench", queries=str(tmp_path / "queries.tsv"), vectors=AlikeQueries("dense"))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        journal = Journal(str(tmp_path / "cache"), look_only=look_only)
        found = (
            pipeline
            | beam.Create(asked("bread", "flood in Lyon"))
            | DropAlike("dense", [test_set], vectors_of, None, journal)
        )
        assert_that(found["queries"] | beam.Map(lambda query: query.query_id), equal_to(kept), "kept")
        assert_that(found["unembedded"] | beam.Map(lambda loss: loss.detail), equal_to(["bench: query t2"]), "waits")


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("{name: b, corpus: c.tsv, vectors: {run: dense}}", "vectors are those of queries"),
        ("{name: b, queries: q.tsv, vectors: {run: dense, cosine: 2}}", "decontaminate.*cosine"),
        ("{name: b, queries: q.tsv, vectors: {run: bm25}}", "decontaminate: bm25 is no first stage that compares"),
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(rule, complaint):
    with pytest.raises(RecipeError, match=complaint):
        find_engines(load_recipe("demo", [f"decontaminate=[{rule}]"]))
