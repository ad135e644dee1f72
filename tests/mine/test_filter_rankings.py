import random

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.losses import Loss
from schemas.query import Query
from tests.support.ranking_records import candidates, human_query, query
from transforms.mine.filter_rankings import Ambiguity, FilterRankings, is_ambiguous, reject_reason
from transforms.mine.retrieve import Ranking, ranking_of


def ranking(*scored: tuple[str, float], of: Query | None = None) -> Ranking:
    return ranking_of(of or query(), candidates(*scored))


def test_for_scores_that_are_not_negative_the_rule_is_the_papers():
    rng = random.Random(0)
    for _ in range(2000):
        positive, negative = rng.choice([0.0, 0.5, 1.0, rng.random()]), rng.choice([0.0, 1.0, 2.0, 3 * rng.random()])
        for ratio in (1.0, 2.0, 4.0):
            assert is_ambiguous(positive, negative, ratio) == (negative > ratio * positive)


def test_twice_the_positive_is_still_clear():
    assert not is_ambiguous(3.0, 6.0, 2.0)
    assert is_ambiguous(3.0, 6.000001, 2.0)


def test_a_positive_above_its_negatives_is_never_ambiguous_at_any_sign():
    for positive in (-5.0, -0.1, 0.0, 0.1, 5.0):
        for gap in (0.0, 0.5, 100.0):
            assert not is_ambiguous(positive, positive - gap, 2.0)


def test_at_zero_any_higher_negative_is_ambiguous():
    assert is_ambiguous(0.0, 1e-9, 2.0)
    assert not is_ambiguous(0.0, 0.0, 2.0)


def test_below_zero_the_negative_may_lie_the_positives_size_above_it():
    assert not is_ambiguous(-4.0, -3.0, 2.0)  # the bare ratio would say: -3 > 2 * -4
    assert not is_ambiguous(-4.0, 0.0, 2.0)
    assert is_ambiguous(-4.0, 0.1, 2.0)


def test_the_rule_holds_at_any_scale_but_not_after_a_shift():
    for scale in (0.25, 1.0, 8.0):
        assert is_ambiguous(1.0 * scale, 3.0 * scale, 2.0)
    assert not is_ambiguous(1.0 + 10, 3.0 + 10, 2.0)


def test_reasons_for_dropping_a_query():
    assert reject_reason(ranking(("pos", 3.0), ("a", 2.0))) is None
    assert reject_reason(ranking(("a", 6.0), ("pos", 3.0))) is None
    assert reject_reason(ranking(("a", 6.5), ("pos", 3.0)), None) is None
    assert reject_reason(ranking(("a", 6.5), ("pos", 3.0))) == (
        "ambiguous",
        "a scores 6.5, its video 3",
    )
    assert reject_reason(ranking(("a", 1.0), ("b", 0.5))) == (
        "not retrievable",
        "its video is not among the first 2",
    )
    assert reject_reason(ranking()) == ("not in run", "the first stage has no candidate for it")


def test_a_query_without_any_negative_is_not_ambiguous():
    assert reject_reason(ranking(("pos", 0.0))) is None


def test_another_known_positive_is_no_negative():
    scored = ("also", 9.0), ("a", 5.0), ("pos", 3.0)
    assert reject_reason(ranking(*scored, of=human_query())) is not None
    assert reject_reason(ranking(*scored, of=human_query(also_relevant=("also",)))) is None


def fused(words: tuple[tuple[str, float], ...]) -> Ranking:
    """The query's video is third of the fused candidates; ``words`` is one of their runs."""
    scored = candidates(("a", 0.3), ("b", 0.2), ("pos", 0.1))
    return ranking_of(query(), scored, (("words", candidates(*words)), ("dense", scored)))


def test_with_several_runs_the_ratio_is_that_of_the_run_that_it_names():
    rule = Ambiguity(run="words", ratio=2.0)
    assert reject_reason(fused((("pos", 3.0), ("a", 1.0))), rule) is None
    assert reject_reason(fused((("a", 6.5), ("pos", 3.0))), rule) == (
        "ambiguous",
        "words: a scores 6.5, its video 3",
    )
    assert reject_reason(fused((("pos", 3.0),)), Ambiguity(run="dense", ratio=2.0)) is not None


def test_a_run_that_did_not_find_the_video_has_no_ratio():
    assert reject_reason(fused((("a", 6.5),)), Ambiguity(run="words", ratio=2.0)) is None


def test_by_rank_a_query_is_ambiguous_where_its_video_stands_too_far_behind():
    assert reject_reason(fused(()), Ambiguity(rank=3)) is None
    assert reject_reason(fused(()), Ambiguity(rank=2)) == ("ambiguous", "its video is at rank 3, beyond 2")
    found, missed = fused((("pos", 1.0),)), fused((("a", 1.0),))
    assert reject_reason(found, Ambiguity(run="words", rank=1)) is None
    assert reject_reason(missed, Ambiguity(run="words", rank=1)) == (
        "ambiguous",
        "words: its video is not found, beyond 1",
    )


@pytest.mark.parametrize("values", [{}, {"ratio": 2.0, "rank": 3}, {"run": "words"}])
def test_the_rule_has_either_a_ratio_or_a_rank(values):
    with pytest.raises(ValueError, match="either a ratio or a rank"):
        Ambiguity(**values)


def test_the_transform_keeps_rankings_and_accounts_for_the_others():
    good = ranking(("pos", 3.0), ("a", 2.0))
    human = ranking(("also", 9.0), ("pos", 3.0), of=human_query(also_relevant=("also",)))
    lost = ranking(("a", 3.0), of=query("q2"))
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        kept, losses = pipeline | beam.Create([good, human, lost]) | FilterRankings(Ambiguity(ratio=2.0))
        assert_that(kept, equal_to([good, human]), "kept")
        detail = "its video is not among the first 1"
        expected = Loss("rejected", "mine", "filter", "not retrievable", detail, "pos", "q2")
        assert_that(losses, equal_to([expected]), "losses")
