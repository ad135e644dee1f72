import random
from collections import Counter

import pyarrow as pa
import pytest

from trainer.data.columns import Examples
from trainer.data.examples import Candidate, CaptionExample, QueryExample, with_frames
from trainer.data.plan import Plan, PlannedItem, plan_captions, plan_queries, read_plan, write_plan
from trainer.data.shards import DataError


def queries(count, negatives=3):
    made = (
        QueryExample(
            f"q{i}", f"query {i}", (Candidate(f"p{i}", 1), *(Candidate(f"n{i}-{j}", 0) for j in range(negatives)))
        )
        for i in range(count)
    )
    return Examples.of(QueryExample, made)


def test_every_epoch_has_every_query_once_with_its_positive_first():
    plan = plan_queries(queries(6), epochs=2, batch=3, positives=1, negatives=2, seed=0)

    assert len(plan) == 12
    for epoch in (0, 1):
        mine = [item for item in plan if item.epoch == epoch]
        assert sorted(item.key for item in mine) == [f"q{i}" for i in range(6)]
    for item in plan:
        number = item.key[1:]
        assert item.video_ids[0] == f"p{number}"
        assert len(set(item.video_ids[1:])) == 2
        assert all(video_id.startswith(f"n{number}-") for video_id in item.video_ids[1:])


def test_epochs_differ_in_order_and_in_the_negatives_drawn():
    plan = plan_queries(queries(8), epochs=2, batch=8, positives=1, negatives=1, seed=0)

    first, second = plan[:8], plan[8:]
    assert [item.key for item in first] != [item.key for item in second]
    assert {item.key: item.video_ids for item in first} != {item.key: item.video_ids for item in second}


def test_the_last_step_is_filled_from_the_epoch_that_would_follow():
    plan = plan_queries(queries(5), epochs=1, batch=4, positives=1, negatives=2, seed=0)

    assert [item.step for item in plan] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert Counter(item.epoch for item in plan) == {0: 5, 1: 3}
    assert len({item.key for item in plan if item.epoch == 1}) == 3


def test_a_batch_larger_than_the_data_takes_as_many_epochs_as_it_needs():
    plan = plan_captions(
        Examples.of(CaptionExample, [CaptionExample("a", "x"), CaptionExample("b", "y")]), epochs=1, batch=5, seed=0
    )

    assert [item.epoch for item in plan] == [0, 0, 1, 1, 2]


def test_a_query_with_fewer_negatives_is_given_all_it_has_and_none_twice():
    plan = plan_queries(queries(2, negatives=1), epochs=1, batch=2, positives=1, negatives=2, seed=0)

    assert all(len(item.video_ids) == 2 for item in plan)


def test_the_plan_follows_from_the_seed_and_not_from_the_order_of_rows():
    given = queries(6)

    def plan(examples, seed):
        return plan_queries(examples, epochs=2, batch=4, positives=1, negatives=2, seed=seed)

    assert plan(given, 0) == plan(given[::-1], 0)
    assert plan(given, 0) != plan(given, 1)


def test_what_is_drawn_for_a_query_does_not_change_when_others_come():
    few, many = (plan_queries(queries(n), epochs=1, batch=n, positives=1, negatives=1, seed=0) for n in (3, 9))

    drawn = {item.key: item.video_ids for item in many}
    assert all(drawn[item.key] == item.video_ids for item in few)


def test_a_plan_reads_back_from_parquet(tmp_path):
    plan = plan_queries(queries(5), epochs=1, batch=4, positives=1, negatives=2, seed=0)

    write_plan(tmp_path / "plan.parquet", plan)

    assert read_plan(tmp_path / "plan.parquet") == plan


def test_no_data_is_an_error():
    with pytest.raises(DataError, match="nothing to train on"):
        plan_queries(queries(0), epochs=1, batch=4, positives=1, negatives=2, seed=0)


def test_training_of_which_every_example_is_left_out_says_so():
    left, none = with_frames([queries(3), queries(0)], clips=(), allowed=99)

    assert (len(left), len(none)) == (0, 0)
    with pytest.raises(DataError, match="nothing to train on: no example is left"):
        plan_queries(left, epochs=1, batch=4, positives=1, negatives=2, seed=0)
    assert len(with_frames([left], clips=(), allowed=0)[0]) == 0


def test_the_candidates_of_no_examples_are_none_of_their_kind():
    for nothing in (queries(2)[0:0], queries(2)[2:], queries(2).without(pa.array(["p0", "p1"]))):
        bounds, ids = nothing.candidates("video_id")
        assert (bounds.tolist(), ids.to_pylist(), ids.type) == ([0], [], pa.string())


def test_of_several_positives_the_querys_own_comes_first_and_others_are_drawn_anew():
    positives = tuple(Candidate(f"p{i}", 1) for i in range(6))
    example = QueryExample("q", "query", (*positives, Candidate("n", 0)))

    plan = plan_queries(Examples.of(QueryExample, [example]), epochs=12, batch=1, positives=3, negatives=2, seed=0)

    assert all(len({*item.video_ids}) == 4 and item.video_ids[::3] == ("p0", "n") for item in plan)
    assert len({item.video_ids for item in plan}) > 2


def test_more_positives_change_no_negative_that_is_drawn():
    few, many = (
        plan_queries(queries(8), epochs=2, batch=8, positives=positives, negatives=2, seed=0) for positives in (1, 4)
    )

    assert few == many


def test_items_and_examples_in_columns_are_what_they_were_made_of():
    made = [
        QueryExample("q2", "a", (Candidate("p", 1, 2.5, 0.9), Candidate("n", 0, -1.0, None, "yes"))),
        QueryExample("q1", "b", (Candidate("p", 1), Candidate("r", 1), Candidate("m", 0))),
        QueryExample("q3", "c", (Candidate("r", 1), Candidate("n", 0))),
    ]
    examples = Examples.of(QueryExample, made)

    assert [*examples] == made == [examples[-3], examples[1], *examples[2:]]
    assert [examples.place(key) for key in ("q1", "q2", "q3", "q0", "q9", "q22")] == [1, 0, 2, None, None, None]
    assert examples.named("q3") == made[2]
    assert examples.video_ids.to_pylist() == ["p", "n", "p", "r", "m", "r", "n"]
    assert [*examples[1:].without(pa.array(["n"]))] == made[1:2]
    items = [PlannedItem(n // 2, 0, f"q{n}", ("p", "n"), ("x",) * (n % 2)) for n in range(5)]
    plan = Plan.of(items)
    assert [*plan] == items == [plan[0], *plan[1:-1], plan[-1]]
    assert plan == Plan.of(iter(items)) != Plan.of(items[1:])


def test_what_is_drawn_is_that_of_a_generator_seeded_by_seed_epoch_and_query():
    (item,) = plan_queries(queries(1, negatives=5), epochs=1, batch=1, positives=1, negatives=2, seed=3)

    assert list(item.video_ids[1:]) == random.Random("3:0:q0").sample([f"n0-{j}" for j in range(5)], 2)
