from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from schemas.usage import Usage
from transforms.journal.budget import PAID_STEPS, Budget, Cost, Deferred, Spending

THREADS = 16


def spend(spending: Spending, step: str = "judge", used: Usage | None = None) -> str:
    """Make one call; the reason why it was not made, else nothing."""
    try:
        with spending.call(step) as call:
            call.usage = used
    except Deferred as deferred:
        return deferred.reason
    return ""


def test_without_bounds_every_call_is_made():
    spending = Spending(Budget())
    assert {spend(spending, step, Usage(10**6, 10**6)) for step in PAID_STEPS * 100} == {""}


@pytest.mark.parametrize("most", [0, 1, 7, 100])
def test_calls_are_counted_exactly_whatever_the_number_of_threads(most):
    spending = Spending(Budget(max_calls=most))
    start = Barrier(THREADS)

    def work(_: int) -> list[str]:
        start.wait()
        return [spend(spending, "write", Usage(1, 1)) for _ in range(20)]

    with ThreadPoolExecutor(THREADS) as threads:
        outcomes = [outcome for some in threads.map(work, range(THREADS)) for outcome in some]
    assert outcomes.count("") == most
    assert set(outcomes) <= {"", "max calls"}


def test_calls_of_all_paid_steps_count_together_and_others_not_at_all():
    spending = Spending(Budget(max_calls=len(PAID_STEPS)))
    assert [spend(spending, step) for step in PAID_STEPS] == [""] * len(PAID_STEPS)
    assert [spend(spending, step) for step in PAID_STEPS] == ["max calls"] * len(PAID_STEPS)
    assert [spend(spending, step) for step in ("media", "decode", "asr", "ocr")] == [""] * 4


def test_a_call_that_fails_counts():
    spending = Spending(Budget(max_calls=1))
    with pytest.raises(ZeroDivisionError), spending.call("judge"):
        raise ZeroDivisionError
    assert spend(spending) == "max calls"


def test_tokens_stop_before_the_bound_once_an_average_is_known():
    spending = Spending(Budget(max_tokens=1000))
    assert [spend(spending, used=Usage(90, 10)) for _ in range(11)] == [""] * 10 + ["max tokens"]


def test_estimates_hold_until_something_was_measured():
    costs = {"judge": Cost(input_tokens=400, output_tokens=100)}
    spending = Spending(Budget(max_tokens=1000, costs=costs))
    calls = [spending.call("judge") for _ in range(3)]
    calls[0].__enter__()
    calls[1].__enter__()
    with pytest.raises(Deferred, match="max tokens"):
        calls[2].__enter__()


def test_an_answer_that_does_not_say_what_it_used_is_taken_for_an_average_one():
    costs = {"judge": Cost(input_tokens=400, output_tokens=100)}
    spending = Spending(Budget(max_tokens=1000, costs=costs))
    assert [spend(spending) for _ in range(3)] == ["", "", "max tokens"]


def test_dollars_follow_the_prices_of_each_step():
    costs = {"judge": Cost(input_price=1.0, output_price=10.0), "write": Cost(input_price=100.0)}
    spending = Spending(Budget(max_cost=1.0, costs=costs))
    assert spend(spending, "write", Usage(5_000, 10**6)) == ""  # 0.5 dollars
    assert spend(spending, "judge", Usage(100_000, 20_000)) == ""  # 0.3
    assert spend(spending, "judge", Usage(0, 0)) == "max cost"  # 0.3 more was to be expected


def test_cached_input_tokens_have_a_price_of_their_own_where_one_is_given():
    assert Cost(input_price=1.0, output_price=10.0).dollars(10**6, 10**5, 9 * 10**5) == 2.0
    assert Cost(input_price=1.0, cached_price=0.0).dollars(10**6, 0, 10**6) == 0.0
    costs = {"judge": Cost(input_price=1.0, cached_price=0.1)}
    spending = Spending(Budget(max_cost=1.0, costs=costs))
    used = Usage(10**6, 0, cached_tokens=8 * 10**5)  # 0.28 dollars
    assert [spend(spending, used=used) for _ in range(4)] == ["", "", "", "max cost"]


def test_tokens_that_are_not_known_are_taken_for_average_ones_and_requests_are_no_calls():
    costs = {"judge": Cost(input_tokens=400, output_tokens=100)}
    spending = Spending(Budget(max_tokens=1000, max_calls=10, costs=costs))
    assert [spend(spending, used=Usage().sent(6)) for _ in range(3)] == ["", "", "max tokens"]


@pytest.mark.parametrize("bound", ["max_calls", "max_tokens", "max_cost"])
def test_a_budget_of_nothing_lets_nothing_by(bound):
    costs = {step: Cost(input_price=1.0, output_price=1.0) for step in PAID_STEPS}
    spending = Spending(Budget(**{bound: 0}, costs=costs))
    assert spend(spending, used=Usage(1, 1)) == bound.replace("_", " ")


def test_what_costs_nothing_is_within_any_cost():
    spending = Spending(Budget(max_cost=0.0))
    assert [spend(spending, used=Usage(10**6, 10**6)) for _ in range(3)] == [""] * 3


def test_once_closed_a_purse_stays_closed():
    spending = Spending(Budget(max_tokens=100))
    assert spend(spending, "write", Usage(60, 0)) == ""
    assert spend(spending, "write", Usage(60, 0)) == "max tokens"
    assert spend(spending, "judge", Usage(1, 0)) == "max tokens"


def test_threads_exceed_tokens_by_no_more_than_the_calls_under_way():
    most, used = 10_000, Usage(90, 10)
    spending = Spending(Budget(max_tokens=most))
    assert spend(spending, used=used) == ""  # measured
    with ThreadPoolExecutor(THREADS) as threads:
        made = [outcome == "" for outcome in threads.map(lambda _: spend(spending, used=used), range(500))]
    assert sum(made) + 1 == most // 100


@pytest.mark.parametrize("wrong", [{"max_calls": -1}, {"max_tokens": -1}, {"max_cost": float("nan")}])
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="must be at least 0"):
        Budget(**wrong)


@pytest.mark.parametrize("wrong", [-1.0, float("inf"), float("nan")])
@pytest.mark.parametrize("name", ["input_price", "cached_price", "output_tokens"])
def test_prices_and_averages_are_numbers_of_at_least_zero(wrong, name):
    with pytest.raises(ValueError, match=f"{name} must be a number of at least 0"):
        Cost(**{name: wrong})
