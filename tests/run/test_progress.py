"""How far a run is: counts, what is left by them, and how each kind of reader is shown it."""

import io
import json
import threading
from datetime import UTC, datetime

import apache_beam as beam
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from rich.console import Console

from runners.cli.runs.run import Shown
from runners.console.outlook import STEPS, outlook
from runners.console.progress import JsonLines, LiveTable, PlainLines, table, time_line, watch
from transforms import progress
from transforms.journal.budget import Bill
from transforms.progress import Advance, StepCount

FORETOLD = {"decode": 10, "asr": 10, "write": 50, "retrieve": 80, "judge": 800}


def never(_: str) -> None:
    """Nothing is known of earlier runs."""


def over_at_once() -> threading.Event:
    over = threading.Event()
    over.set()
    return over


def counted(given, done, seconds=0.0, **others) -> StepCount:
    return StepCount(given, done, first_s=100.0, last_s=100.0 + seconds, **others)


def test_a_step_counts_done_of_due_and_its_rate_over_its_own_time():
    progress.reset()
    progress.advance("decode", "in", 10, now=100.0)
    progress.advance("decode", "done", 4, now=101.0)
    progress.advance("decode", "failed", now=102.0)

    count = progress.snapshot()["decode"]

    assert (count.done, count.due, count.failed, count.rate_per_s) == (4, 10, 1, 2.0)


def test_what_is_rejected_or_left_for_later_is_no_more_waited_for():
    progress.reset()
    progress.advance("judge", "in", 175, now=0.0)
    progress.advance("judge", "done", 67, now=1.0)
    progress.advance("judge", "rejected", 100, now=1.0)
    progress.advance("judge", "deferred", 8, now=1.0)

    count = progress.snapshot()["judge"]

    assert (count.ended, count.due) == (175, 175)


def test_steps_that_have_not_begun_are_not_counted():
    progress.reset()

    assert progress.snapshot() == {}
    assert outlook({}, {}, never).steps == ()


def test_a_run_that_begins_knows_its_videos_and_foretells_the_rest():
    seen = {step.step: step for step in outlook({"decode": counted(2, 0)}, FORETOLD, never).steps}

    assert (seen["decode"].due, seen["decode"].exact) == (10, True)
    assert {name: (step.due, step.exact) for name, step in seen.items() if name != "decode"} == {
        "asr": (10, False),
        "write": (50, False),
        "retrieve": (80, False),
        "judge": (800, False),
    }


def test_what_follows_is_foretold_anew_by_what_became_of_the_step_before():
    counts = {
        "decode": counted(10, 8, 4.0, failed=2),
        "asr": counted(8, 8, 8.0),
        "write": counted(40, 40, 4.0),
        "retrieve": counted(20, 0),
    }

    seen = {step.step: step for step in outlook(counts, FORETOLD, never).steps}

    assert seen["decode"].over
    assert (seen["retrieve"].due, seen["retrieve"].exact) == (20, True)  # of 80 that were foretold
    assert (seen["judge"].due, seen["judge"].exact) == (200, False)


def test_queries_that_come_one_by_one_are_no_more_taken_for_the_last_until_pairs_are_judged():
    counts = {name: counted(10, 10, 4.0) for name in ("decode", "asr")} | {"write": counted(50, 50, 4.0)}
    going = outlook({**counts, "retrieve": counted(31, 30, 3.0)}, FORETOLD, never)
    after = outlook({**counts, "retrieve": counted(70, 70, 7.0), "judge": counted(700, 1, 0.0)}, FORETOLD, never)

    (retrieve,) = (step for step in going.steps if step.step == "retrieve")
    assert (retrieve.due, retrieve.exact, round(retrieve.left_s)) == (80, False, 5)
    (retrieve,) = (step for step in after.steps if step.step == "retrieve")
    assert (retrieve.due, retrieve.over) == (70, True)


def test_time_is_left_by_the_pace_so_far_and_before_that_by_earlier_runs():
    counts = {"decode": counted(10, 10, 5.0), "asr": counted(10, 5, 20.0), "write": counted(50, 10, 20.0)}
    earlier = {"retrieve": 0.5, "judge": 0.25}

    seen = outlook(counts, FORETOLD, earlier.get)

    # asr and write are at work side by side: 5 x 4 s and 40 x 2 s; what has not begun comes one after the other.
    assert seen.left_s == 80 + 80 * 0.5 + 800 * 0.25
    assert seen.unknown == ()
    assert time_line(seen) == "0 s so far, about 5 min 20 s left"


def test_time_that_nothing_tells_is_not_guessed():
    begun = outlook({"decode": counted(10, 5, 5.0)}, FORETOLD, never)
    fresh = outlook({}, {"decode": 10}, never)

    assert begun.left_s == 5
    assert begun.unknown == ("asr", "write", "retrieve", "judge")
    assert "more than 5 s left (no pace yet: videos transcribed" in time_line(begun)
    assert time_line(fresh) == "0 s so far, time left not known yet (no pace yet: videos decoded)"


def test_cached_items_count_for_the_pace_of_what_is_left_and_not_for_the_rate():
    [step] = outlook({"decode": counted(10, 6, 3.0, cached=3)}, {"decode": 10}, never).steps

    assert (step.rate_per_s, step.left_s) == (1.0, 2.0)


def test_a_pace_of_nothing_but_cached_items_is_none():
    counts = {"decode": counted(10, 6, 3.0, cached=6)}

    assert outlook(counts, {"decode": 10}, never).unknown == ("decode",)
    assert outlook(counts, {"decode": 10}, {"decode": 2.0}.get).left_s == 8.0


def test_a_rate_over_no_time_is_not_shown():
    [step] = outlook({"emit": counted(0, 39, 0.01)}, {}, never).steps

    assert step.rate_per_s == 0.0
    assert (step.ended, step.due) == (39, 39)


def test_shards_are_known_beforehand_whatever_came_of_the_videos_and_shown_once_one_is_written():
    counts = {"decode": counted(10, 5, 4.0, failed=5), "retrieve": counted(20, 20, 2.0), "judge": counted(9, 9, 2.0)}
    foretold = {"decode": 10, "retrieve": 80, "judge": 800, "curate": 80, "emit": 12}

    before = outlook({**counts, "curate": counted(20, 5, 1.0)}, foretold, {"emit": 0.5}.get)
    after = outlook({**counts, "curate": counted(20, 20, 4.0), "emit": counted(0, 3, 2.0)}, foretold, never)

    assert before.left_s == 15 * 0.2 + 12 * 0.5
    assert [step.step for step in before.begun][-1] == "curate"
    assert [(step.ended, step.due, step.exact) for step in after.begun][-1] == (3, 12, True)


def test_a_run_in_which_nothing_moves_says_every_minute_that_it_is_there():
    lines = []
    view = PlainLines(lines.append)

    for elapsed_s in (30.0, 65.0, 90.0, 125.0):
        view.show(outlook({}, {}, never, elapsed_s), [])

    assert lines == ["1 min 5 s so far", "2 min 5 s so far"]


def test_what_was_spent_is_said_once_there_is_any():
    bill = Bill(calls=1200, tokens=3_400_000, dollars=1.5)

    assert time_line(outlook({}, {}, never, 61.0, bill)) == "1 min 1 s so far, 1,200 calls, 3,400,000 tokens, $1.50"
    assert time_line(outlook({}, {}, never, 61.0, Bill(calls=9))) == "1 min 1 s so far"


def shown_by(view):
    progress.reset()
    progress.advance("judge", "in", 3, now=0.0)
    progress.advance("judge", "done", 2, now=4.0)
    progress.advance("judge", "failed", now=4.0)
    progress.announce("thresholds keep 2 queries")
    watch(over_at_once(), [view], lambda: outlook(progress.snapshot(), {"retrieve": 4}, never, 65.0))


def test_without_a_terminal_counts_are_plain_lines_of_what_has_moved():
    lines = []

    shown_by(PlainLines(lines.append))

    assert lines == [
        "thresholds keep 2 queries",
        "pairs judged: 3 of about 3, 30.0/min, 1 failed",
        "1 min 5 s so far, time left not known yet (no pace yet: queries searched)",
    ]


def test_for_programs_each_line_is_an_object():
    text = io.StringIO()

    shown_by(JsonLines(text))
    said, counts = map(json.loads, text.getvalue().splitlines())

    assert said["said"] == "thresholds keep 2 queries"
    assert (counts["elapsed_s"], counts["left_s"], counts["unknown"]) == (65.0, None, ["retrieve"])
    [judge] = [step for step in counts["steps"] if step["step"] == "judge"]
    assert (judge["ended"], judge["due"], judge["failed"]) == (3, 3, 1)


def test_on_a_terminal_a_table_fits_80_columns():
    text = io.StringIO()

    shown_by(LiveTable(Console(file=text, force_terminal=True, width=80, color_system=None)))

    assert "pairs judged" in text.getvalue()
    wide = {name: counted(123_456, 65_432, 5000.0, cached=12_345, failed=99) for name in STEPS}
    console = Console(file=io.StringIO(), width=80)
    console.print(table(outlook(wide, {}, never)))
    assert "…" not in console.file.getvalue()


@pytest.mark.parametrize("event", ["done", "rejected"])
def test_a_pipeline_counts_what_passes_through(event):
    progress.reset()
    with TestPipeline(runner="FnApiRunner") as p:
        _ = p | beam.Create(["a", "b"]) | Advance("decode", event)

    assert progress.snapshot()["decode"].ended == 2


@pytest.mark.parametrize(
    ("shown", "kinds"),
    [
        (Shown(False, False, "", "auto"), [PlainLines]),
        (Shown(False, False, "", "json", io.StringIO()), [JsonLines, JsonLines]),
        (Shown(False, True, "", "auto", io.StringIO()), [PlainLines]),
        (Shown(False, True, ""), []),
    ],
)
def test_a_pipe_gets_lines_and_a_log_what_is_said_even_of_a_quiet_run(shown, kinds):
    assert [type(view) for view in shown.views(Console(file=io.StringIO()))] == kinds


def test_a_terminal_gets_a_table_unless_it_is_to_have_lines():
    terminal = Console(file=io.StringIO(), force_terminal=True)

    assert [type(view) for view in Shown(False, False, "").views(terminal)] == [LiveTable]
    assert [type(view) for view in Shown(False, False, "", "plain").views(terminal)] == [PlainLines]


def test_a_log_has_the_time_before_each_line_and_no_control_characters():
    log = io.StringIO()

    Shown(False, False, "", log=log).say("\x1b[31mnote", Console(file=io.StringIO()))

    moment, _, text = log.getvalue().partition(" ")
    assert (datetime.fromisoformat(moment).tzinfo, text) == (UTC, "\N{REPLACEMENT CHARACTER}[31mnote\n")
