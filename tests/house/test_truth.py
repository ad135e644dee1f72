"""The benchmark of labels against the truth: what it counts, in a world small enough to count by hand."""

import pytest

from benchmarks.truth import RULES, Noise, judges_of, measure, wilson, world

SURE = Noise(wrong=0.0, unsure=0.0, unparsable=0.0)
ALL_WRONG = Noise(wrong=1.0, unsure=0.0, unparsable=0.0)


@pytest.fixture(scope="module")
def asked():
    return list(world(4, seed=1))


def test_a_query_has_four_answers_among_twelve_videos_of_its_event_and_ten_of_others(asked):
    assert len(asked) == 12
    for one in asked:
        names = [video.video_id for video in one.candidates]
        assert (len(one.answers & {*names}), len({*names}), names[0]) == (4, 21, one.query.video_id)
    assert any(one.query.video_id not in one.answers for one in asked)


def test_judges_that_never_err_recover_every_answer_and_drop_what_was_written_for_the_wrong_video(asked):
    good = sum(one.query.video_id in one.answers for one in asked)
    rules, judges = RULES["1 more, both must agree"]

    found = measure(asked, judges_of(asked, SURE, 0, 1 + judges), rules)

    assert found.groups == good < len(asked)
    assert (found.positives.part, found.positives.whole) == (4 * good, 4 * good)
    assert (found.recovered.part, found.confirmed.whole) == (3 * good, 3 * good)
    assert (found.false_negatives.part, found.false_negatives.whole) == (0, 3 * good)


def test_judges_that_always_err_leave_no_group_that_is_right(asked):
    found = measure(asked, judges_of(asked, ALL_WRONG, 0, 1), RULES["no panel, the paper's rules"][0])

    assert found.positives.part == 0


def test_an_interval_is_wilsons():
    assert wilson(1, 379) == pytest.approx((0.000466, 0.014792), abs=1e-6)
    assert wilson(0, 10)[0] == 0.0
