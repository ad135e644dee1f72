import itertools
import random
from collections import defaultdict

import pytest

from transforms.engines.server.pacing import EPOCH_REPLIES, EPOCH_S, START_PER_S, Pace


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class Bucket:
    """A server that takes ``rate_per_s`` requests a second and refuses what is more."""

    def __init__(self, clock, rate_per_s, burst=20):
        self.clock, self.rate_per_s, self.burst = clock, rate_per_s, burst
        self.tokens, self.filled_s = burst, clock.now_s

    def takes(self):
        self.tokens = min(self.burst, self.tokens + (self.clock.now_s - self.filled_s) * self.rate_per_s)
        self.filled_s = self.clock.now_s
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


def send(pace, clock, seconds, takes=lambda: True):
    """Send whenever the pace allows it; how many were taken and refused, which the pace is told at once."""
    taken, refused, end_s = 0, 0, clock.now_s + seconds
    while clock.now_s < end_s:
        if wait_s := pace.wait_s():
            clock.now_s += wait_s + 1e-9
            continue
        answer = takes()
        taken, refused = taken + answer, refused + (not answer)
        pace.note(refused=not answer)
    return taken, refused


@pytest.fixture
def clock():
    return Clock()


def test_requests_are_spread_evenly_at_the_rate(clock):
    pace = Pace(clock)
    sent = []
    while clock.now_s < 2.0:
        wait_s = pace.wait_s()
        if not wait_s:
            sent.append(clock.now_s)
        clock.now_s += wait_s + 1e-6

    assert len(sent) == pytest.approx(2.0 * START_PER_S, abs=1)
    assert max(later - earlier for earlier, later in itertools.pairwise(sent)) == pytest.approx(
        1.0 / START_PER_S, rel=0.01
    )


def test_idle_time_is_not_made_up_for_by_a_burst(clock):
    pace = Pace(clock)
    clock.now_s = 60.0
    at_once = 0
    while not pace.wait_s():
        at_once += 1

    assert at_once == 2


def test_a_server_that_takes_everything_is_sent_more_and_more(clock):
    pace = Pace(clock)
    send(pace, clock, 3.0)

    assert pace.rate_per_s > 1000


@pytest.mark.parametrize("limit_per_s", [3.0, 75.0, 400.0])
def test_the_rate_settles_at_what_the_server_takes_with_few_refusals(clock, limit_per_s):
    pace, bucket = Pace(clock), Bucket(clock, limit_per_s)
    send(pace, clock, 120.0, bucket.takes)
    taken, refused = send(pace, clock, 120.0, bucket.takes)

    assert taken >= 0.97 * 120.0 * limit_per_s
    assert refused <= 0.05 * taken


def test_the_rate_follows_a_limit_that_changes(clock):
    pace, bucket = Pace(clock), Bucket(clock, 200.0)
    send(pace, clock, 60.0, bucket.takes)
    bucket.rate_per_s = 50.0
    send(pace, clock, 20.0, bucket.takes)

    assert 40.0 <= pace.rate_per_s <= 60.0

    bucket.rate_per_s = 200.0
    send(pace, clock, 60.0, bucket.takes)

    assert 180.0 <= pace.rate_per_s <= 220.0


def test_a_server_that_refused_everything_for_a_while_is_soon_sent_as_much_as_before(clock):
    pace, bucket = Pace(clock), Bucket(clock, 200.0)
    send(pace, clock, 60.0, bucket.takes)
    send(pace, clock, 120.0, lambda: False)

    assert 0.1 <= pace.rate_per_s < 1.0

    send(pace, clock, 60.0, bucket.takes)

    assert 180.0 <= pace.rate_per_s <= 220.0


def test_a_server_that_counts_the_requests_of_a_minute_is_made_use_of(clock):
    pace, minutes = Pace(clock), defaultdict(int)

    def takes():
        minutes[int(clock.now_s // 60)] += 1
        return minutes[int(clock.now_s // 60)] <= 3000

    send(pace, clock, 600.0, takes)
    taken, refused = send(pace, clock, 600.0, takes)

    assert taken >= 0.97 * 30_000
    assert refused <= 0.2 * taken


def test_a_refusal_now_and_then_slows_nothing_down(clock):
    pace, chance = Pace(clock), random.Random(0)
    send(pace, clock, 3.0, lambda: chance.random() > 0.01)

    assert pace.rate_per_s > 1000


def test_an_epoch_is_long_enough_to_tell_a_share(clock):
    pace = Pace(clock)
    for _ in range(EPOCH_REPLIES[0]):
        pace.note(refused=True)
    assert pace.rate_per_s == START_PER_S  # so many replies, but too soon

    clock.now_s = EPOCH_S[0]
    pace.note(refused=True)
    assert pace.rate_per_s == START_PER_S / 4

    clock.now_s = 10 * EPOCH_S[1]
    pace.note(refused=True)
    assert pace.rate_per_s == START_PER_S / 4  # late, but too few replies


def test_one_bad_epoch_leaves_a_quarter_of_the_rate(clock):
    pace = Pace(clock)
    send(pace, clock, 0.5, lambda: False)

    assert pace.rate_per_s == START_PER_S / 4


def test_a_few_refusals_in_a_short_epoch_are_bad_luck(clock):
    pace, refusals = Pace(clock), iter([True, True, True])
    send(pace, clock, 0.5, lambda: not next(refusals, False))

    assert pace.rate_per_s > START_PER_S
