import pytest

from tests.support.ranking_records import judgement, positive
from transforms.curate.strata import stratum_of

TABLE = [
    # label, delta, stratum at the paper's alpha1 = -6, alpha2 = -8
    ("no", -20.0, "trusted_negative"),
    ("no", -6.0, "trusted_negative"),  # the boundary is trusted
    ("no", -5.999, "hard_negative"),
    ("no", 0.0, "hard_negative"),
    ("no", 3.0, "hard_negative"),  # contradicts its own margin: unsure
    ("yes", 5.0, "suspected_positive"),
    ("yes", 0.0, "suspected_positive"),
    ("yes", -6.0, "suspected_positive"),
    ("yes", -7.999, "suspected_positive"),
    ("yes", -8.0, "hard_negative"),  # the boundary is not suspected
    ("yes", -9.0, "hard_negative"),
    ("no", None, "hard_negative"),  # never trusted without a margin
    ("yes", None, "suspected_positive"),
]


@pytest.mark.parametrize(("label", "delta", "stratum"), TABLE)
def test_the_stratum_follows_label_and_margin(label, delta, stratum):
    assert stratum_of(judgement("v", label, delta)) == stratum


@pytest.mark.parametrize("label", ["yes", "no"])
@pytest.mark.parametrize("delta", [-9.0, 0.0, 9.0, None])
def test_the_labelled_positive_is_positive_whatever_the_teacher_says(label, delta):
    assert stratum_of(positive(label, delta)) == "positive"


def test_as_printed_every_yes_that_agrees_with_its_margin_is_suspected():
    assert {stratum_of(judgement("v", "yes", delta / 10)) for delta in range(0, 200)} == {"suspected_positive"}


def test_with_alpha2_at_two_a_hesitant_yes_is_a_hard_negative():
    assert stratum_of(judgement("v", "yes", 2.0), alpha2=2.0) == "hard_negative"
    assert stratum_of(judgement("v", "yes", 2.1), alpha2=2.0) == "suspected_positive"


def test_alpha1_moves_the_border_of_trust():
    assert stratum_of(judgement("v", "no", -3.0), alpha1=-3.0) == "trusted_negative"
