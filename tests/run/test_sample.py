"""How far off the numbers of a sample may be."""

import random
from collections import Counter

import pytest

from pipeline.config import _OF_NEGATIVES, PROMPTS
from pipeline.planning.changes import NotHeld
from pipeline.planning.sampled.sample import Stratum, off_by
from pipeline.planning.sampled.since import _OF_PROMPT, _OF_ROLE, _OF_STEP, STAGES
from pipeline.planning.seen import NOTHING, Seen
from pipeline.recipes.sections import _ROLES
from schemas.video import ManifestEntry
from transforms.journal.record import STEPS


def noted(step: str, *subjects: str) -> list[NotHeld]:
    return [NotHeld(step, subject, digest, "", "new") for digest, subject in enumerate(subjects)]


def seen(misses: list[NotHeld], held: int) -> Seen:
    counted = Counter(miss.step for miss in misses)
    return NOTHING.plus(
        Seen(
            counts={"judge": {"cached": held}},
            reasons={step: {"new": counted[step]} for step in STEPS},
            missed=counted,
            follow={},
            files={},
        )
    )


def stratum(drawn: int, of: int) -> Stratum:
    return Stratum(tuple(ManifestEntry(f"/v/{n} a.mp4", f"v{n}") for n in range(drawn)), of)


OWNERS = {**{f"/v/{n} a.mp4": f"{n}" for n in range(10)}, **{f"q{n}": f"{n}" for n in range(10)}, "v3": "3"}


def half(squares: float, results: int) -> float:
    """Half an interval of 10 videos of 100, of these squares about the mean, among so many results."""
    return 2.6 * 10 * (0.9 * 10 * squares / 9) ** 0.5 + 10 * 0.9 * 3 / 10 * results


def off(step: str, misses: list[NotHeld], held: int = 0) -> float:
    return off_by(stratum(10, 100), seen(misses, held), misses, OWNERS, {})[step]


def test_an_interval_is_that_of_sums_by_video_and_of_what_was_not_seen():
    # One of 10 videos lacks 3 results: squares of 9 - 0.9.
    misses = noted("judge", "q3 v1", "second q3 v2", "q3 v7 sample 1")

    assert off("judge", misses) == pytest.approx(half(9 - 0.9, 3))
    assert off("judge", misses, held=97) == pytest.approx(half(9 - 0.9, 100))


def test_all_results_of_a_video_are_counted_together_whatever_names_it():
    apart = noted("judge", "q1 v3", "q2 v3", "q3 v3")
    together = noted("judge", "q3 v1", "other v3", "v3 caption")
    of_files = noted("embed_video", "/v/3 a.mp4 caption", "/v/3 a.mp4 asr", "/v/3 a.mp4")

    assert off("judge", apart) == pytest.approx(half(3 - 0.9, 3))
    assert off("judge", together) == pytest.approx(half(9 - 0.9, 3))
    assert off("embed_video", of_files) == pytest.approx(half(9 - 0.9, 3))


def test_nothing_is_off_where_all_were_looked_at_and_what_is_known_to_be_left_bounds_what_was_not_seen():
    misses = noted("judge", "q3 v1", "q4 v1")

    assert off_by(stratum(10, 10), seen(misses, 50), misses, OWNERS, {})["judge"] == 0
    assert off_by(stratum(10, 100), seen([], 50), [], OWNERS, {"judge": 7})["judge"] == 7
    assert off_by(stratum(10, 100), seen([], 50), [], OWNERS, {})["judge"] == pytest.approx(10 * 0.9 * 0.3 * 50)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3, 0.9, 1.0])
def test_ranges_hold_what_is_missing_in_nearly_all_samples(share):
    draw = random.Random(f"missing {share}")
    results = {f"v{n}": draw.randint(5, 60) for n in range(2000)}
    missing = {name: count * (draw.random() < share) for name, count in results.items()}
    held = 0
    for _ in range(100):
        drawn = draw.sample(sorted(results), 100)
        misses = noted("judge", *(f"{name} {n}" for name in drawn for n in range(missing[name])))
        found = seen(misses, sum(results[name] for name in drawn) - len(misses))
        off = off_by(stratum(100, 2000), found, misses, {}, {})["judge"]
        held += abs(20 * len(misses) - sum(missing.values())) <= off
    assert held >= 96


def test_of_every_engine_prompt_and_step_it_is_known_which_stage_it_decides_first():
    assert _OF_ROLE.keys() == _ROLES.keys()
    assert _OF_PROMPT.keys() == {*PROMPTS, *_OF_NEGATIVES}
    assert _OF_STEP.keys() >= {*STEPS}
    assert {*_OF_ROLE.values(), *_OF_PROMPT.values(), *_OF_STEP.values()} <= {*STAGES}
