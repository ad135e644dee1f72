from collections.abc import Mapping
from dataclasses import replace

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.losses import Loss
from schemas.query import Query
from tests.support.ranking_records import candidates, query
from transforms import progress
from transforms.ledger import LOSSES
from transforms.mine.choose_pairs import ChoosePairs, LeaveOut, choose_pairs, way_down
from transforms.mine.margin_rule import FittedMargin, MarginRule
from transforms.mine.retrieve import Ranking, ranking_of
from transforms.search.fusion import FusionConfig, fuse

SCORED = ("a", 9.0), ("b", 8.0), ("pos", 7.0), ("c", 6.0), ("d", 5.0)
WORDS = candidates(*SCORED)
DENSE = candidates(("pos", 0.9), ("d", 0.89), ("c", 0.8), ("a", 0.5))


def train(_: str) -> str:
    return "train"


def ranking(of: Query | None = None) -> Ranking:
    return ranking_of(of or query(), WORDS, (("words", WORDS), ("dense", DENSE)))


def chosen(found: Ranking, depth: int = 20, near: Mapping[str, str] | None = None, margin: MarginRule | None = None):
    """What is judged, and what is left out with its reason."""
    near = near or {}
    choices = list(choose_pairs(found, train, depth, lambda video: near.get(video, video), margin))
    judged = [choice.candidate.video_id for choice in choices if not choice.reason]
    return judged, {choice.candidate.video_id: (choice.reason, choice.detail) for choice in choices if choice.reason}


def test_the_judge_gets_the_positive_and_the_best_of_its_split():
    splits = {"a": "train", "b": "validation", "c": "train", "d": "train", "pos": "train"}
    choices = choose_pairs(ranking(), splits.__getitem__, 2)
    assert [(c.candidate.video_id, c.candidate.rank) for c in choices] == [("pos", 3), ("a", 1), ("c", 4)]


def test_another_known_positive_is_passed_over():
    assert chosen(ranking(replace(query(), also_relevant=("c",)))) == (["pos", "a", "b", "d"], {})


def test_a_query_whose_positive_was_not_found_has_nothing_to_judge():
    with pytest.raises(ValueError, match="'q' was not retrieved"):
        list(choose_pairs(ranking(query(video_id="elsewhere")), train, 3))


def test_near_duplicates_of_what_answers_the_query_are_left_out_and_the_next_takes_their_place():
    found = ranking(replace(query(), also_relevant=("d",)))
    near = {"pos": "a", "a": "a", "d": "c", "c": "c"}
    assert chosen(found, 1, near) == (["pos", "b"], {"a": ("near duplicate", "of pos")})
    assert chosen(found, 2, near) == (
        ["pos", "b"],
        {"a": ("near duplicate", "of pos"), "c": ("near duplicate", "of d")},
    )


def test_near_duplicates_of_one_another_are_both_negatives():
    assert chosen(ranking(), 20, {"a": "a", "b": "a"})[0] == ["pos", "a", "b", "c", "d"]


def test_what_scores_above_a_share_of_the_positive_in_the_named_run_is_left_out():
    judged, left_out = chosen(ranking(), margin=MarginRule("dense", relative=0.95))
    assert judged == ["pos", "a", "b", "c"]
    why = "dense: scores 0.89, above 0.855; the query's own video 0.9"
    assert left_out == {"d": ("above the margin", why)}
    assert chosen(ranking(), margin=MarginRule("words", relative=0.95))[0] == ["pos", "c", "d"]


def test_a_share_of_a_score_below_zero_lies_below_it():
    assert MarginRule(relative=0.95).cut(-4.0, WORDS) == pytest.approx(-4.2)


def test_a_spread_knows_neither_the_zero_nor_the_unit_of_scores():
    rule = MarginRule(spread=0.5)
    for unit, zero in ((1.0, 0.0), (0.01, 5.0), (100.0, -300.0)):
        scores = candidates(*((video, unit * score + zero) for video, score in SCORED))
        assert rule.cut(unit * 9.0 + zero, scores) == pytest.approx(unit * 8.0 + zero)  # half way from 9 to 7


def test_a_positive_below_the_median_leaves_out_what_is_above_it():
    assert MarginRule(spread=0.5).cut(5.5, WORDS) == 5.5


def test_a_spread_of_the_largest_scores_overflows_to_nothing():
    scores = candidates(*((video, 1e308 * sign) for video, sign in zip("abc", (1, -1, -1), strict=True)))
    assert MarginRule(spread=0.5).cut(1e308, scores) == 0.0


def test_a_run_without_the_positive_or_the_candidate_leaves_nothing_out():
    assert chosen(ranking(query(video_id="b")), margin=MarginRule("dense", relative=0.1))[1] == {}
    assert "b" in chosen(ranking(), margin=MarginRule("dense", relative=0.0))[0]


def union(**quotas: int) -> list[str]:
    runs = {"words": WORDS, "dense": DENSE}
    found = ranking_of(query(), fuse(runs, FusionConfig("union")), tuple(runs.items()))
    return [choice.candidate.video_id for choice in choose_pairs(found, train, 20, quotas=quotas)]


def test_of_each_run_the_judge_is_given_as_many_as_its_quota_says_and_the_positive_wherever_it_is():
    assert union() == ["pos", "a", "b", "d", "c"]
    assert union(words=1, dense=1) == ["pos", "a", "d"]
    assert union(words=1, dense=2) == ["pos", "a", "d", "c"]
    assert union(words=2, dense=1) == ["pos", "a", "b", "d"]


def test_a_run_without_a_quota_has_no_limit():
    assert union(words=1) == ["pos", "a", "d", "c"]


def test_a_quota_counts_those_of_the_split_that_are_not_left_out():
    splits = {"a": "validation", "b": "train", "c": "train", "d": "train", "pos": "train"}
    near = {"b": "pos"}
    choices = choose_pairs(
        ranking(), splits.__getitem__, 20, lambda video: near.get(video, video), quotas={"words": 1, "dense": 1}
    )
    assert [(one.candidate.video_id, one.reason) for one in choices] == [
        ("pos", ""),
        ("b", "near duplicate"),  # the first of words that is of the split, and the next takes its place
        ("c", ""),
        ("d", ""),
    ]


def test_quotas_together_above_the_number_of_candidates_are_cut_by_rank():
    runs = {"words": WORDS, "dense": DENSE}
    found = ranking_of(query(), fuse(runs, FusionConfig("union")), tuple(runs.items()))
    choices = choose_pairs(found, train, 2, quotas={"words": 2, "dense": 2})
    assert [choice.candidate.video_id for choice in choices] == ["pos", "a", "b"]


@pytest.mark.parametrize("values", [{}, {"relative": 0.9, "spread": 0.1}, {"spread": 0.1, "quantile": 0.1}])
def test_a_margin_has_one_of_its_rules(values):
    with pytest.raises(ValueError, match="one of relative, spread and quantile"):
        MarginRule(**values)


def test_how_far_down_the_best_other_video_is_hangs_on_no_unit_and_no_zero():
    assert way_down(ranking(), "words") == 0.0  # two score above
    assert way_down(ranking(), "dense") == pytest.approx((0.9 - 0.89) / (0.9 - (0.89 + 0.8) / 2))
    assert way_down(ranking(replace(query(), also_relevant=("d",))), "dense") == 1.0  # c lies below the middle
    assert way_down(ranking(query(video_id="b")), "dense") is None
    huge = candidates(("pos", 1e308), ("a", 0.0), ("b", -1e308))
    assert way_down(ranking_of(query(), huge, ()), None) == 1.0


def test_a_quantile_is_the_spread_at_which_that_share_of_queries_has_a_candidate_above_the_margin():
    runs = [
        candidates(("pos", 1.0), (f"n{at}", 1.0 - at / 100), *((f"m{n}", 0.0) for n in range(3))) for at in range(100)
    ]
    found = [ranking_of(query(), run, ()) for run in runs]

    rule = MarginRule(quantile=0.1)
    fitted = rule.fitted(way_down(each, None) for each in found)

    assert fitted == FittedMargin(pytest.approx(0.1), 100)
    assert sum(bool(chosen(each, margin=rule.at(fitted))[1]) for each in found) == 10
    assert MarginRule(quantile=1.0).fitted([0.2, 0.7]) == FittedMargin(0.7, 2)
    assert MarginRule(quantile=0.1).fitted([]) == FittedMargin(0.0, 0)


def test_the_margin_of_a_quantile_is_found_over_all_queries_and_said():
    progress.reset()
    ids = ("pos", "d", "c", "a", "b")
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        inputs = (
            pipeline
            | "Rankings"
            >> beam.Create([ranking(), ranking(query(video_id="a")), ranking(replace(query(), also_relevant=("d",)))]),
            pipeline | "Splits" >> beam.Create([(name, "train") for name in ids]),
            pipeline | "Near" >> beam.Create([(name, name) for name in ids]),
        )
        found = inputs | ChoosePairs(20, MarginRule("dense", quantile=0.9))
        assert_that(found["margin"], equal_to([FittedMargin(1.0, 3)]), "margin")
        left_out = found["choices"] | beam.FlatMapTuple(lambda pair, reason, _: [pair[0]] if reason else [])
        assert_that(left_out, equal_to(["d", "d", "c", "pos"]))
    assert progress.announcements() == ["mine.margin: quantile 0.9 of 3 queries comes to a spread of 1"]


def test_every_pair_that_was_looked_at_is_judged_or_a_loss():
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        names = [video for video, _ in SCORED]
        inputs = (
            pipeline | "Rankings" >> beam.Create([ranking()]),
            pipeline | "Splits" >> beam.Create([(name, "train") for name in names]),
            pipeline | "Near" >> beam.Create([("pos", "b"), ("b", "b")]),
        )
        found = inputs | ChoosePairs(2, MarginRule("dense", relative=0.95), {"words": 2})
        parted = found["choices"] | LeaveOut()
        text = query().text
        assert_that(
            parted.pairs,
            equal_to(
                [
                    ("pos", "q", text, True, 3, 7.0, (("words", 3, 7.0), ("dense", 1, 0.9))),
                    ("a", "q", text, False, 1, 9.0, (("words", 1, 9.0), ("dense", 4, 0.5))),
                    ("c", "q", text, False, 4, 6.0, (("words", 4, 6.0), ("dense", 3, 0.8))),
                ]
            ),
            "pairs",
        )
        lost = Loss("rejected", "mine", "guard", "near duplicate", "of pos", "b", "q")
        assert_that(parted[LOSSES], equal_to([lost]), "losses")
