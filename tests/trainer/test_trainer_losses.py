from math import exp, isclose, log

import pytest
import torch

from trainer.config.config import LossConfig, PointwiseTerm, Term
from trainer.data.examples import Candidate
from trainer.model.losses import Targets, listwise, pairwise, pointwise, ranking_loss, teacher

SCORES = torch.tensor([2.0, -1.0, 0.5])


def sigmoid(x):
    return 1 / (1 + exp(-x))


def bce(logit, target):
    return -target * log(sigmoid(logit)) - (1 - target) * log(1 - sigmoid(logit))


def group(*deltas, censored=None):
    """The positive, then negatives, with the teacher's margins."""
    return Targets.of(
        [
            Candidate(f"v{i}", int(i == 0), delta, None if delta is None else sigmoid(delta), censored)
            for i, delta in enumerate(deltas)
        ]
    )


def test_pairwise_is_the_negative_log_softmax_of_the_positive():
    expected = -log(exp(0.2) / (exp(0.2) + exp(-0.1) + exp(0.05)))

    assert isclose(pairwise(SCORES, group(None, None, None), 10.0).item(), expected, rel_tol=1e-6)


def test_the_teacher_term_is_the_mean_cross_entropy_with_its_probability():
    expected = (bce(0.4, sigmoid(3.0)) + bce(-0.2, sigmoid(-4.0)) + bce(0.1, sigmoid(1.0))) / 3

    assert isclose(teacher(SCORES, group(3.0, -4.0, 1.0), 5.0).item(), expected, rel_tol=1e-6)


def test_a_candidate_of_unknown_probability_takes_no_part_in_the_teacher_term():
    expected = (bce(0.4, sigmoid(3.0)) + bce(0.1, sigmoid(1.0))) / 2

    assert isclose(teacher(SCORES, group(3.0, None, 1.0), 5.0).item(), expected, rel_tol=1e-6)


def test_a_group_of_which_nothing_is_known_has_no_teacher_term_and_no_gradient():
    scores = SCORES.clone().requires_grad_()

    loss = teacher(scores, group(None, None, None), 5.0)
    loss.backward()

    assert loss.item() == 0.0
    assert scores.grad.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("censored", "allowed", "forbidden"), [("yes", -4.0, 1.0), ("no", 1.0, -4.0)])
def test_a_censored_margin_pulls_from_one_side_only(censored, allowed, forbidden):
    bound = -2.0  # with "yes" unreported the true margin is at most this, with "no" at least
    targets = group(bound, censored=censored)
    inside, outside = (torch.tensor([5.0 * x], requires_grad=True) for x in (allowed, forbidden))

    within, beyond = teacher(inside, targets, 5.0), teacher(outside, targets, 5.0)
    within.backward()
    beyond.backward()

    assert inside.grad.item() == 0.0
    assert isclose(within.item(), bce(bound, sigmoid(bound)), rel_tol=1e-6)  # the least that this term can be
    assert isclose(beyond.item(), bce(forbidden, sigmoid(bound)), rel_tol=1e-6)
    assert isclose(outside.grad.item(), (sigmoid(forbidden) - sigmoid(bound)) / 5.0, rel_tol=1e-5)


def test_pointwise_has_soft_targets_and_weights_by_label():
    term = PointwiseTerm(weight=0.5, temperature=1.0)
    expected = (bce(2.0, 1.0) + 0.5 * bce(-1.0, 0.1) + 0.5 * bce(0.5, 0.1)) / 3

    assert isclose(pointwise(SCORES, group(None, None, None), term).item(), expected, rel_tol=1e-6)


def test_listwise_compares_the_two_top_one_distributions():
    margins, scores = (3.0, -4.0, 1.0), SCORES.tolist()
    wanted = [exp(m) / sum(map(exp, margins)) for m in margins]
    given = [exp(s) / sum(map(exp, scores)) for s in scores]
    expected = -sum(w * log(g) for w, g in zip(wanted, given, strict=True))

    assert isclose(listwise(SCORES, group(*margins), 1.0).item(), expected, rel_tol=1e-6)
    assert listwise(SCORES, group(3.0, None, None), 1.0).item() == 0.0


def test_the_loss_is_the_weighted_sum_of_its_terms_each_the_mean_of_its_groups():
    targets = [group(3.0, -4.0, 1.0), group(2.0, None)]
    scores = [SCORES, SCORES[:2]]

    total, terms = ranking_loss(scores, targets, LossConfig())

    assert list(terms) == ["pairwise", "teacher", "pointwise"]
    both = zip(scores, targets, strict=True)
    assert isclose(terms["pairwise"].item(), sum(pairwise(s, t, 10.0).item() for s, t in both) / 2, rel_tol=1e-6)
    weighted = terms["pairwise"] + 5.0 * terms["teacher"] + 0.5 * terms["pointwise"]
    assert isclose(total.item(), weighted.item(), rel_tol=1e-6)


def test_a_term_of_weight_zero_is_left_out():
    config = LossConfig(teacher=Term(weight=0.0, temperature=5.0), listwise=Term(weight=1.0, temperature=1.0))

    _, terms = ranking_loss([SCORES], [group(3.0, -4.0, 1.0)], config)

    assert list(terms) == ["pairwise", "pointwise", "listwise"]


def two_positives(*deltas):
    """Two positives, then negatives, with the teacher's margins."""
    return Targets.of(
        [
            Candidate(f"v{i}", int(i < 2), delta, None if delta is None else sigmoid(delta))
            for i, delta in enumerate(deltas)
        ]
    )


FOUR = torch.tensor([2.0, -1.0, 0.5, 1.0])


def test_pairwise_of_two_positives_is_the_mean_of_each_among_the_negatives_without_the_other():
    negatives = exp(0.05) + exp(0.1)
    expected = -(log(exp(0.2) / (exp(0.2) + negatives)) + log(exp(-0.1) / (exp(-0.1) + negatives))) / 2

    assert isclose(pairwise(FOUR, two_positives(*[None] * 4), 10.0).item(), expected, rel_tol=1e-6)


def test_pairwise_pulls_no_positive_down_for_another():
    scores = FOUR.clone().requires_grad_()

    pairwise(scores, two_positives(*[None] * 4), 10.0).backward()

    assert (scores.grad < 0).tolist() == [True, True, False, False]


def test_the_teacher_term_of_two_positives_is_the_mean_over_all_four():
    pairs = zip((2.0, -1.0, 0.5, 1.0), (3.0, 1.0, -4.0, -2.0), strict=True)
    expected = sum(bce(score / 5, sigmoid(delta)) for score, delta in pairs) / 4

    assert isclose(teacher(FOUR, two_positives(3.0, 1.0, -4.0, -2.0), 5.0).item(), expected, rel_tol=1e-6)


def test_pointwise_weighs_both_of_two_positives():
    term = PointwiseTerm(
        weight=1.0,
        temperature=2.0,
        positive_target=0.9,
        negative_target=0.1,
        positive_weight=3.0,
        negative_weight=1.0,
    )
    expected = (3 * bce(1.0, 0.9) + 3 * bce(-0.5, 0.9) + bce(0.25, 0.1) + bce(0.5, 0.1)) / 4

    assert isclose(pointwise(FOUR, two_positives(*[None] * 4), term).item(), expected, rel_tol=1e-6)


def test_listwise_shares_the_teachers_mass_between_two_positives():
    wanted = [exp(3.0), exp(1.0), exp(-4.0), exp(-2.0)]
    found = [exp(score) for score in FOUR.tolist()]
    pairs = zip(wanted, found, strict=True)
    expected = -sum(w / sum(wanted) * log(f / sum(found)) for w, f in pairs)

    assert isclose(listwise(FOUR, two_positives(3.0, 1.0, -4.0, -2.0), 1.0).item(), expected, rel_tol=1e-6)
