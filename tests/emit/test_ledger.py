from operator import attrgetter

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from schemas.losses import Loss, Tally
from transforms.emit.shards import WrittenFile
from transforms.ledger import (
    CHAIN,
    AddUp,
    Count,
    LedgerOutOfBalance,
    check_balance,
    key_of,
    ledger_json,
    lines_of,
    read_ledger,
)

STEP = ("synthesize", "filter")


def tallies(*counts):
    return [Tally(*STEP, outcome, reason, n) for outcome, reason, n in counts]


ALL = sorted({tuple(name.split("/")) for pair in CHAIN for name in pair} | {STEP})


def books(*wrong):
    """Ten items through every step, but for the (stage/step, outcome, count) given."""
    counts = {(*step, outcome): 10 for step in ALL for outcome in ("in", "out")}
    counts |= {(*name.split("/"), outcome): n for name, outcome, n in wrong}
    return lines_of([Tally(stage, step, outcome, "", n) for (stage, step, outcome), n in counts.items()], ALL)


def test_books_balance_when_every_item_is_accounted_for():
    [line] = lines_of(
        tallies(("in", "", 10), ("out", "", 6), ("rejected", "too short", 3), ("failed", "OSError", 1)), [STEP]
    )

    assert line.missing == 0
    check_balance(books(), entries=10)


@pytest.mark.parametrize("count", [9, 11])
def test_an_item_lost_or_invented_in_a_step_is_named(count):
    with pytest.raises(LedgerOutOfBalance, match=rf"synthesize/filter: {10 - count:+d}".replace("+", r"\+")):
        check_balance(books(("synthesize/filter", "out", count)), entries=10)


def test_an_item_lost_between_two_steps_is_named_with_both():
    with pytest.raises(LedgerOutOfBalance, match=r"mine/filter to curate/queries: \+1"):
        check_balance(books(("curate/queries", "in", 9), ("curate/queries", "out", 9), ("emit/ranking", "in", 9)), 10)


def test_a_listed_video_that_was_never_read_is_out_of_balance():
    with pytest.raises(LedgerOutOfBalance, match=r"input to extract/decode: \+1"):
        check_balance(books(), entries=11)


def test_the_ledger_survives_its_file():
    lines = lines_of(tallies(("in", "", 2), ("out", "", 1), ("deferred", "budget", 1)), [STEP])

    assert read_ledger(ledger_json(lines, {"asr": {"time limit": 1}})) == lines


def test_items_are_added_up_over_bundles_and_collections_by_step_outcome_and_reason():
    losses = [Loss("rejected", *STEP, reason) for reason in ("too short", "too long", "too short")]
    with TestPipeline(runner="FnApiRunner") as p:
        dropped = p | beam.Create(losses)
        entered = [p | f"Entered {n}" >> beam.Create(range(n)) for n in (3, 4)]
        files = p | "Files" >> beam.Create([WrittenFile("a", "", 0, 5), WrittenFile("b", "", 0, 0)])
        counts = [items | f"In {n}" >> beam.ParDo(Count(((*STEP, "in", ""), None))) for n, items in enumerate(entered)]
        counts += [
            dropped | "Dropped" >> beam.ParDo(Count((key_of, None))),
            files | "Out" >> beam.ParDo(Count(((*STEP, "out", ""), attrgetter("rows")))),
        ]
        assert_that(
            counts | beam.Flatten() | AddUp(),
            equal_to(
                [
                    Tally(*STEP, "in", "", 7),
                    Tally(*STEP, "out", "", 5),
                    Tally(*STEP, "rejected", "too short", 2),
                    Tally(*STEP, "rejected", "too long", 1),
                ]
            ),
        )


def test_a_counter_that_is_used_for_another_bundle_starts_anew():
    counter = Count(((*STEP, "in", ""), None))
    found = []
    for items in (3, 2):
        counter.start_bundle()
        for item in range(items):
            counter.process(item)
        found += [count.value for count in counter.finish_bundle()]

    assert found == [((*STEP, "in", ""), 3), ((*STEP, "in", ""), 2)]
