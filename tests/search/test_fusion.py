import math

import msgspec
import pytest

from schemas.check import InvalidRecord
from schemas.configuration.section import converted
from schemas.query import Candidates
from transforms.search.fusion import FusionConfig, fuse

WORDS = Candidates(["a", "b", "c"], [9.0, 5.0, 1.0])
DENSE = Candidates(["c", "d", "a"], [0.75, 0.5, 0.25])
RUNS = {"words": WORDS, "dense": DENSE}


def fused(runs=RUNS, depth: int | None = None, **config) -> list[tuple[str, float]]:
    return [(one.video_id, one.score) for one in fuse(runs, FusionConfig(**config), depth)]


def test_reciprocal_ranks_add_up_and_ties_go_to_the_smaller_id():
    assert fused(method="rrf") == [
        ("a", 1 / 63 + 1 / 61),
        ("c", 1 / 61 + 1 / 63),
        ("b", 1 / 62),
        ("d", 1 / 62),
    ]


def test_reciprocal_ranks_know_weights_and_the_constant():
    assert fused(method="rrf", k=1, weights={"dense": 2.0}) == [
        ("c", 2 / 2 + 1 / 4),
        ("a", 2 / 4 + 1 / 2),
        ("d", 2 / 3),
        ("b", 1 / 3),
    ]


def test_scores_between_0_and_1_add_up_and_a_missing_one_is_0():
    assert fused(method="minmax") == [
        ("a", 0.0 + 1.0),
        ("c", 1.0 + 0.0),
        ("b", (5 - 1) / (9 - 1)),
        ("d", (0.5 - 0.25) / (0.75 - 0.25)),
    ]
    assert dict(fused(method="minmax", weights={"words": 3.0}))["b"] == 1.5


def test_equal_scores_are_1_between_0_and_1_and_0_as_z_scores():
    runs = {"flat": Candidates(["a", "b"], [7.0, 7.0]), "one": Candidates(["c"], [-2.0]), "none": Candidates()}

    assert fused(runs, method="minmax") == [("a", 1.0), ("b", 1.0), ("c", 1.0)]
    assert fused(runs, method="zscore") == [("a", 0.0), ("b", 0.0), ("c", 0.0)]


def test_a_video_that_a_run_lacks_gets_the_lowest_of_its_z_scores_and_not_the_mean():
    deviation = math.sqrt((16 + 0 + 16) / 3)
    words = {"a": 4 / deviation, "b": 0.0, "c": -4 / deviation}
    step = 0.25 / math.sqrt((0.0625 + 0 + 0.0625) / 3)
    dense = {"c": step, "d": 0.0, "a": -step}

    found = dict(fused(method="zscore"))

    assert found == {
        "a": pytest.approx(words["a"] + dense["a"], abs=1e-12),
        "b": pytest.approx(words["b"] - step, abs=1e-12),
        "c": pytest.approx(words["c"] + dense["c"], abs=1e-12),
        "d": pytest.approx(words["c"] + dense["d"], abs=1e-12),
    }
    assert found["d"] < 0  # a missing 0 would have set it level with the mean


def test_a_union_takes_the_first_of_every_run_by_the_best_rank_of_any():
    assert fused(method="union") == [("a", 1.0), ("c", 1.0), ("b", 1 / 2), ("d", 1 / 2)]
    assert fused(method="union", depth=3) == [("a", 1.0), ("c", 1.0), ("b", 1 / 2)]


def test_quotas_bound_what_is_judged_and_not_where_a_query_s_own_video_is_found():
    assert fused(method="union", quotas={"words": 1, "dense": 1}) == fused(method="union")


@pytest.mark.parametrize("method", ["rrf", "minmax", "zscore", "union"])
def test_the_order_in_which_runs_are_named_changes_nothing(method):
    runs = {
        f"run{number}": Candidates(
            [f"v{(number * 7 + rank * 3) % 11:02}" for rank in range(9)], [1 / (3 + rank * number) for rank in range(9)]
        )
        for number in (1, 2, 3)
    }
    backwards = dict(reversed(runs.items()))

    assert fuse(runs, FusionConfig(method=method)) == fuse(backwards, FusionConfig(method=method))


def test_the_best_of_so_many_are_kept():
    assert fused(depth=2) == fused()[:2]


def test_no_run_found_anything():
    for method in ("rrf", "minmax", "zscore", "union"):
        assert fused({"words": Candidates(), "dense": Candidates()}, method=method) == []


@pytest.mark.parametrize("unit", [1e-300, 1e307])
def test_scores_of_any_size_are_fused_as_those_near_1(unit):
    near_1, of_any_size = (Candidates(("a", "b", "c"), (4 * one, one, -4 * one)) for one in (1.0, unit))

    for method in ("minmax", "zscore"):
        expected = fused({"words": near_1}, method=method)
        assert [score for _, score in fused({"words": of_any_size}, method=method)] == pytest.approx(
            [score for _, score in expected], abs=1e-12
        )


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"weights": {"dense": 0.0}}, "weight is above zero"),
        ({"weights": {"dense": math.inf}}, "weight is above zero"),
        ({"method": "union", "weights": {"dense": 1.0}}, "a union has quotas, no weights"),
        ({"method": "rrf", "quotas": {"dense": 5}}, "only a union has quotas"),
    ],
)
def test_a_fusion_that_makes_no_sense_is_refused(config, reason):
    with pytest.raises(InvalidRecord, match=reason):
        FusionConfig(**config)
    with pytest.raises(ValueError, match=reason):
        converted(config, FusionConfig, "mine.fusion", ValueError)


def test_quotas_and_the_constant_are_at_least_1():
    for config in ({"k": 0}, {"method": "union", "quotas": {"dense": 0}}, {"method": "sum"}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(config, FusionConfig)


def test_weights_of_a_run_that_is_not_there_are_refused_with_those_that_are():
    with pytest.raises(InvalidRecord, match=r"did you mean 'dense'\? \(known: dense, words\), got 'dens'"):
        fuse(RUNS, FusionConfig(weights={"dens": 2.0}))
