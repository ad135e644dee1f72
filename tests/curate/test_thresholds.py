"""Thresholds that are fitted to the margins that a run's own pairs got."""

import math
import random
from array import array

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.config import RecipeError, load_recipe
from pipeline.curate import Curate
from pipeline.engines import require_reach
from pipeline.outputs.diff.given import Given
from pipeline.outputs.thresholds import check_thresholds, fitted_texts, rules_of
from pipeline.stage import LedgerBuilder
from schemas.check import InvalidRecord
from schemas.query import Candidate, Candidates
from tests.support.ranking_records import judgement, positive, query, video
from transforms.curate.curate_query import CurateRules
from transforms.curate.thresholds import (
    CurateConfig,
    FindThresholds,
    Fitted,
    Margins,
    Thresholds,
    below_all_but,
    quantile_of,
)
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.mine.margin_rule import FittedMargin
from transforms.mine.retrieve import Ranking

HALF = Fitted(0.5)


@pytest.mark.parametrize(
    ("share", "found"), [(0.001, -5.0), (0.2, -5.0), (0.21, -4.0), (0.5, -3.0), (0.8, -2.0), (0.81, 7.0), (0.999, 7.0)]
)
def test_a_quantile_is_the_least_margin_that_so_large_a_share_does_not_exceed(share, found):
    assert quantile_of(array("d", [-2.0, -5.0, 7.0, -3.0, -4.0]), share) == found


def test_a_quantile_counts_in_decimals_as_it_was_written():
    assert 0.07 * 100 > 7
    assert quantile_of(array("d", range(100)), 0.07) == 6.0


def test_the_margins_are_those_of_all_candidates_that_have_one_whatever_the_verdict():
    judged = [positive(delta=9.0), judgement("a", "no", -3.0), judgement("b", "yes", 2.0), judgement("c", "no")]

    margins = Margins().add(judged)

    assert (list(margins.others), list(margins.positives)) == ([-3.0, 2.0], [9.0])


def test_the_thresholds_are_the_same_in_whatever_order_and_parts_judgements_come():
    config, rng = CurateConfig(Fitted(0.3), Fitted(0.1)), random.Random(5)
    judged = [judgement(str(at), "no", rng.gauss(-2.0, 3.0)) for at in range(997)]
    margins = sorted(one.margin.delta for one in judged)
    found = FindThresholds(config)
    for parts in (1, 2, 7):
        rng.shuffle(judged)
        accumulators = [found.create_accumulator() for _ in range(parts)]
        for one in judged:
            at = rng.randrange(parts)
            accumulators[at] = found.add_input(accumulators[at], one)
        merged = found.extract_output(found.merge_accumulators(accumulators))
        assert merged == Thresholds(margins[299], margins[99], 997)  # ceil(0.3 * 997) = 300, ceil(0.1 * 997) = 100


def test_alpha1_comes_to_no_more_than_zero():
    assert CurateConfig(HALF).thresholds(Margins(array("d", [3.0]))) == Thresholds(0.0, -8.0, 1)


def test_without_any_margin_nothing_is_trusted():
    thresholds = CurateConfig(HALF, HALF).thresholds(Margins())

    assert thresholds == Thresholds(-20.0, -20.0, 0)


def test_numbers_need_no_margins_and_quantiles_do():
    assert CurateConfig(-4.0, -7.0, 2, 5).rules(None) == CurateRules(-4.0, -7.0, 2, 5)
    with pytest.raises(InvalidRecord, match="fitted to margins needs what it came to"):
        CurateConfig(HALF).rules(None)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{quantile: 0}", r"^recipe key curate\.alpha1\.quantile: expected `float` > 0\.0"),
        ("{quantile: 1}", r"^recipe key curate\.alpha1\.quantile: expected `float` < 1\.0"),
        ("{quantil: 0.3}", r"^recipe key curate\.alpha1\.quantil is not known; did you mean 'quantile'\?"),
        ("{quantile: 0.3, calibrated: 0.1}", r"^recipe key curate\.alpha1: a threshold that is fitted has one of"),
        ("{}", r"^recipe key curate\.alpha1: a threshold that is fitted has one of quantile and calibrated"),
        ("{calibrated: 1}", r"^recipe key curate\.alpha1\.calibrated: expected `float` < 1\.0"),
        ("low", r"^recipe key curate\.alpha1: write a number of nats, {quantile: 0\.3} or "),
    ],
)
def test_a_wrong_quantile_is_one_line_that_names_the_key(value, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("demo", [f"curate.alpha1={value}"])


def test_a_recipe_says_its_quantile_and_not_what_it_comes_to():
    recipe = load_recipe("demo", ["curate.alpha1={quantile: 0.3}"])

    assert recipe.as_dict()["curate"]["alpha1"] == {"quantile": 0.3}
    assert recipe.curate.follows_margins
    assert not load_recipe("demo").curate.follows_margins


def test_the_surer_half_of_the_candidates_is_trusted_where_alpha1_is_their_median():
    judged = [positive(), *(judgement(f"n{at}", "no", -at / 10, at) for at in (1, 2, 3, 4))]
    with beam.Pipeline() as pipeline:
        ranking = Ranking(query(), Candidates(("pos",), (1.0,)), Candidate("pos", 1, 1.0))
        rankings = pipeline | "Rankings" >> beam.Create([ranking])
        judgements = pipeline | "Judged" >> beam.Create(judged)
        losses = pipeline | "Lost" >> beam.Create([])
        splits = pipeline | "Splits" >> beam.Create([(video("pos").video_id, "train")])
        inputs = (rankings, {"judgements": judgements, "losses": losses}, splits)
        found = inputs | Curate(CurateConfig(HALF), LedgerBuilder())
        strata = found["pairs"] | beam.Map(lambda pair: (pair.judgement.video_id, pair.stratum))
        trusted, hard = "trusted_negative", "hard_negative"
        due = [("pos", "positive"), ("n1", hard), ("n2", hard), ("n3", trusted), ("n4", trusted)]
        assert_that(strata, equal_to(due), label="strata")
        assert_that(found["thresholds"], equal_to([Thresholds(-0.3, -8.0, 4)]), label="thresholds")


class Run:
    recipe = {"mine": {"margin": {"quantile": 0.1}}, "curate": {"alpha1": {"quantile": 0.3}, "alpha2": -8.0}}
    thresholds = Thresholds(-4.1234, -8.0, 3804)
    margin = FittedMargin(0.04123, 1203)


def test_an_output_says_what_its_quantile_came_to():
    of_margin = "mine.margin = quantile 0.1 = a spread of 0.04123 over 1,203 queries"
    assert fitted_texts(Run(), ("curate",)) == ["alpha1 = quantile 0.3 = -4.12 nats over 3,804 pairs"]
    assert fitted_texts(Run()) == [of_margin, *fitted_texts(Run(), ("curate",))]
    assert rules_of(Run()) == CurateRules(-4.1234, -8.0)


def test_only_what_the_same_rule_came_to_differs_without_a_change_of_the_recipe():
    class Other(Run):
        thresholds = Thresholds(-5.0, -8.0, 3804)

    class Plain(Run):
        recipe = {"curate": {"alpha1": -4.0, "alpha2": -8.0}}
        thresholds = None

    [cause] = Given(Run(), Other()).thresholds
    assert str(cause).endswith(
        "quantile 0.3 = -4.12 nats over 3,804 pairs -> quantile 0.3 = -5.00 nats over 3,804 pairs"
    )
    assert Given(Run(), Plain()).thresholds == Given(Plain(), Run()).thresholds == frozenset()


@pytest.mark.parametrize(("share", "above"), [(0.1, -4.0), (0.24, -4.0), (0.25, -1.0), (0.5, 3.0), (0.99, 5.0)])
def test_a_calibrated_threshold_is_the_highest_that_at_most_so_many_positives_reach(share, above):
    positives = array("d", [5.0, -1.0, 3.0, -4.0])

    found = below_all_but(positives, share)

    assert found == math.nextafter(above, -math.inf)
    assert sum(margin <= found for margin in positives) <= share * len(positives)


def test_equal_positives_are_not_parted():
    assert below_all_but(array("d", [-2.0, -2.0, -2.0, 4.0]), 0.5) < -2.0


def test_alpha1_is_calibrated_on_the_queries_own_videos_whatever_their_candidates_got():
    judged = [positive(delta=float(at - 2)) for at in range(100)]
    others = [judgement(str(at), "no", -9.0) for at in range(50)]
    config = CurateConfig(Fitted(calibrated=0.01))

    found = config.thresholds(Margins().add([*judged, *others]))

    assert (found.alpha1, found.alpha2, found.pairs, found.positives) == (pytest.approx(-1.0), -8.0, 50, 100)
    assert sum(one.margin.delta <= found.alpha1 for one in judged) == 1
    assert config.thresholds(Margins().add(others)) == Thresholds(-20.0, -8.0, 50, 0)  # nothing is known to be relevant


def test_a_judge_that_calls_every_positive_surely_irrelevant_has_nothing_trusted():
    found = CurateConfig(Fitted(calibrated=0.2)).thresholds(Margins(array("d", [-20.0]), array("d", [-20.0] * 9)))

    assert found.alpha1 < -20.0


def test_only_alpha1_can_be_calibrated():
    with pytest.raises(RecipeError, match=r"^recipe key curate: alpha2 is no threshold of negatives"):
        load_recipe("demo", ["curate.alpha2={calibrated: 0.1}"])


def test_one_way_of_fitting_takes_the_place_of_the_other(tmp_path):
    recipe = load_recipe("demo", ["curate.alpha1={quantile: 0.3}", "curate.alpha1={calibrated: 0.02}"])

    assert recipe.as_dict()["curate"]["alpha1"] == {"calibrated": 0.02}
    assert recipe.curate.follows_margins


def test_an_output_says_what_its_calibration_came_to():
    class Calibrated(Run):
        recipe = {"curate": {"alpha1": {"calibrated": 0.02}}}
        thresholds = Thresholds(-3.0712, -8.0, 3804, 330)

    said = "alpha1 = calibrated 0.02 = -3.07 nats, at or below which at most 6 of 330 known positives lie"
    assert fitted_texts(Calibrated(), ("curate",)) == [said]
    assert rules_of(Calibrated()) == CurateRules(-3.0712, -8.0)


def test_a_share_of_few_positives_that_comes_to_none_of_them_is_told():
    class Few(Run):
        recipe = {"curate": {"alpha1": {"calibrated": 0.02}}}
        thresholds = Thresholds(-3.0712, -8.0, 300, 22)

    (said,) = fitted_texts(Few(), ("curate",))
    assert said.endswith(
        "-3.07 nats, at or below which none of 22 known positives lies, for 0.02 of them is less than one"
    )


def test_a_judge_without_margins_cannot_be_calibrated():
    recipe = load_recipe("demo", ["curate.alpha1={calibrated: 0.02}"])

    with pytest.raises(RecipeError, match=r"curate\.alpha1 is fitted to margins: no query could be kept"):
        require_reach(recipe, OpenAiTeacher(model="m", confidence=()))


def test_thresholds_that_the_judgements_do_not_make_are_a_problem():
    class Judged:
        def batches(self, table, columns):
            yield pa.RecordBatch.from_pydict(
                {"is_positive": [True, False, True, False, True], "delta": [3.0, -9.0, -1.0, None, None]}
            )

    class Calibrated(Run):
        recipe = {"curate": {"alpha1": {"calibrated": 0.5}}}
        thresholds = CurateConfig(Fitted(calibrated=0.5)).thresholds(
            Margins(array("d", [-9.0]), array("d", [3.0, -1.0]))
        )

    assert Calibrated.thresholds == Thresholds(0.0, -8.0, 1, 2)
    assert list(check_thresholds(Judged(), Calibrated())) == []

    Calibrated.thresholds = Thresholds(0.0, -8.0, 1, 3)
    (problem,) = check_thresholds(Judged(), Calibrated())
    assert "the judgements make its thresholds" in str(problem)
