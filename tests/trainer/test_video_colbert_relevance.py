"""Which pairs of a batch a Video-ColBERT is taught to be right or wrong, and which it is not taught at all."""

import json

import pytest

from schemas.tables import TABLES
from tests.support.tiny_training import tiny_tables, write_output
from trainer.data.examples import Candidate, QueryExample, read_queries
from trainer.data.shards import Shards
from trainer.retriever.relevance import Relevance, read_relevance


def query(*candidates, query_id="q"):
    return QueryExample(query_id, "a red ball", candidates)


POSITIVE, NEGATIVE = Candidate("p", 1, 6.0, 0.9), Candidate("n", 0, -8.0, 0.001)


def relevance(example, **known):
    nothing = {"answers": {}, "events": {}, "groups": {}}
    return Relevance({example.query_id: {c.video_id: c for c in example.candidates}}, **{**nothing, **known})


def test_the_positive_is_right_and_every_other_video_of_the_batch_wrong():
    example = query(POSITIVE, NEGATIVE)

    targets, known = relevance(example).matrices([example], ["p", "n", "of another query"])

    assert targets.tolist() == [[1.0, 0.0, 0.0]]
    assert known.all()


def test_the_teachers_probability_replaces_both_where_it_judged():
    example = query(POSITIVE, NEGATIVE, Candidate("unsure", 0))

    targets, known = relevance(example).matrices([example], ["p", "n", "unsure", "x"], soft=True)

    assert targets[0].tolist() == pytest.approx([0.9, 0.001, 0.0, 0.0])
    assert known.all()


@pytest.mark.parametrize(
    ("known", "video_id"),
    [
        ({"answers": {"q": frozenset({"also"})}}, "also"),  # known, or suspected, to answer the query too
        ({"answers": {"q": frozenset({"n"})}}, "n"),  # even if it is in the query's own group
        ({"groups": {"p": "g", "copy": "g"}}, "copy"),
        ({"answers": {"q": frozenset({"also"})}, "groups": {"also": "g", "copy": "g"}}, "copy"),
        ({"groups": {"p": "g", "n": "g"}}, "n"),  # a judge that says no to a copy of the positive is mistaken
        ({"events": {"p": "flood", "x": "flood"}}, "x"),  # of the same event, and nobody has judged it
        ({}, None),  # a place that no video fills
    ],
)
def test_what_may_be_right_is_not_taught_to_be_wrong(known, video_id):
    example = query(POSITIVE, NEGATIVE)

    found = relevance(example, **known).matrices([example], ["p", video_id, "other"])[1]

    assert found.tolist() == [[True, False, True]]


def test_a_judged_video_of_the_same_event_is_the_hardest_negative_and_stays():
    example = query(POSITIVE, NEGATIVE)

    targets, known = relevance(example, events={"p": "flood", "n": "flood"}).matrices([example], ["p", "n"])

    assert (targets.tolist(), known.tolist()) == ([[1.0, 0.0]], [[True, True]])


def test_every_positive_of_a_query_is_right_drawn_or_not_and_their_copies_are_not_taught():
    drawn, other, copy = query(POSITIVE, NEGATIVE), Candidate("p2", 1), {"p2": "g", "copy": "g"}
    found = relevance(query(POSITIVE, other, NEGATIVE), answers={"q": frozenset({"p", "p2"})}, groups=copy)

    targets, known = found.matrices([drawn], ["p", "p2", "n", "copy"])

    assert targets.tolist() == [[1.0, 1.0, 0.0, 0.0]]
    assert known.tolist() == [[True, True, True, False]]


def test_videos_without_a_group_are_in_none_together():
    example = query(POSITIVE, NEGATIVE)

    assert relevance(example, events={"x": "flood"}, groups={"y": "g"}).matrices([example], ["p", "z"])[1].all()


def test_a_video_that_comes_twice_counts_once_also_as_the_positive():
    one, two = query(POSITIVE, NEGATIVE), query(Candidate("n", 1), Candidate("p", 0), query_id="r")

    targets, known = relevance(one).matrices([one, two], ["p", "n", "n", "p", None])

    assert known.tolist() == [[True, True, False, False, False]] * 2
    assert targets[:, :2].tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_all_is_read_from_an_outputs_tables_and_qrels(tmp_path):
    rows = tiny_tables(videos=6, queries=3)
    for row in rows["videos"]["part"][:2]:
        row["metadata"] = dict.fromkeys(("title", "description", "language", "published")) | {"event": "flood"}
    rows["videos"]["part"][3]["group"] = rows["videos"]["part"][5]["group"] = "v3"
    rows["ranking"]["train"][2]["query"] = "A  RED ball"  # what the first query says, of another video
    blank = dict.fromkeys(TABLES["judgements"].schema.names)
    judged = [("q0", "v4", "yes", None), ("q1", "v5", "no", "suspected_positive"), ("q1", "v0", "no", "hard_negative")]
    named = [dict(zip(("query_id", "video_id", "label", "stratum"), row, strict=True)) for row in judged]
    rows["judgements"] = {"part": [blank | row for row in named]}
    folder = write_output(tmp_path / "data", rows)
    (folder / "qrels.trec").write_text("q2 0 v0 2\nq2 0 v1 0\nunknown 0 v3 1\n")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"].append({"path": "qrels.trec"})
    (folder / "manifest.json").write_text(json.dumps(manifest))
    shards = Shards(str(folder))
    examples = read_queries(shards, "train")

    found = read_relevance(shards, examples)

    assert found.answers == {"q0": {"v0", "v2", "v4"}, "q1": {"v1", "v5"}, "q2": {"v0", "v2"}}
    assert found.events == {"v0": "flood", "v1": "flood"}
    assert found.groups == {"v3": "v3", "v5": "v3"}
    assert found.judged["q0"].keys() == {"v0", "v1", "v2", "v3"}
    first = next(example for example in examples if example.query_id == "q0")
    assert [found.target(first, f"v{i}") for i in range(6)] == [1.0, 0.0, None, 0.0, None, 0.0]


def test_an_output_without_judgements_and_qrels_tells_what_its_examples_do(tmp_path):
    shards = Shards(str(write_output(tmp_path / "data", tiny_tables())))

    found = read_relevance(shards, read_queries(shards, "train"))

    assert found.answers["q3"] == {"v3"}
    assert (found.events, found.groups) == ({}, {})
