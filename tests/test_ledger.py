import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from schemas.account import Rejection, Tally
from transforms.ledger import CountOutcome, LedgerOutOfBalance, check_balance, ledger_json, lines_of, read_ledger

STEP = ("synthesize", "filter")


def tallies(*counts):
    return [Tally(*STEP, outcome, reason, n) for outcome, reason, n in counts]


def test_a_line_balances_when_every_item_is_accounted_for():
    [line] = lines_of(
        tallies(("in", "", 10), ("out", "", 6), ("rejected", "too short", 3), ("failed", "OSError", 1)), [STEP]
    )

    assert line.missing == 0
    check_balance([line])


def test_a_lost_item_is_named_with_its_step():
    lines = lines_of(tallies(("in", "", 10), ("out", "", 9)), [STEP])

    with pytest.raises(LedgerOutOfBalance, match=r"synthesize/filter: \+1"):
        check_balance(lines)


def test_an_invented_item_is_out_of_balance_too():
    with pytest.raises(LedgerOutOfBalance, match="-1"):
        check_balance(lines_of(tallies(("out", "", 1)), [STEP]))


def test_the_ledger_survives_its_file():
    lines = lines_of(tallies(("in", "", 2), ("out", "", 1), ("deferred", "budget", 1)), [STEP])

    assert read_ledger(ledger_json(lines, {"asr": {"time limit": 1}})) == lines


def test_outcomes_are_counted_by_reason():
    rejections = [Rejection(*STEP, reason) for reason in ("too short", "too long", "too short")]
    with TestPipeline(runner="FnApiRunner") as p:
        counted = p | beam.Create(rejections) | CountOutcome(*STEP, "rejected", lambda r: r.reason)
        assert_that(
            counted,
            equal_to([Tally(*STEP, "rejected", "too short", 2), Tally(*STEP, "rejected", "too long", 1)]),
        )
