import io
import threading

import apache_beam as beam
from apache_beam.testing.test_pipeline import TestPipeline
from rich.console import Console

from runners.console.progress import watch
from transforms import progress
from transforms.progress import Advance


def test_a_step_counts_done_of_due_and_its_rate_over_its_own_time():
    progress.reset()
    progress.advance("decode", "in", 10, now=100.0)
    progress.advance("decode", "done", 4, now=101.0)
    progress.advance("decode", "failed", now=102.0)

    count = progress.snapshot()["decode"]

    assert (count.done, count.due, count.failed, count.rate_per_s) == (4, 10, 1, 2.0)


def test_steps_that_have_not_begun_are_not_shown():
    progress.reset()

    assert progress.snapshot() == {}


def test_without_a_terminal_the_final_counts_are_plain_lines():
    progress.reset()
    progress.advance("judge", "in", 3, now=0.0)
    progress.advance("judge", "done", 2, now=4.0)
    progress.advance("judge", "failed", now=4.0)
    over, text = threading.Event(), io.StringIO()
    over.set()

    watch(over, Console(file=text, force_terminal=False, width=100))

    assert text.getvalue() == "pairs judged: 2/3, 0.5/s, 1 failed\n"


def test_a_pipeline_counts_what_passes_through():
    progress.reset()
    with TestPipeline(runner="FnApiRunner") as p:
        _ = p | beam.Create(["a", "b"]) | Advance("decode", "done")

    assert progress.snapshot()["decode"].done == 2
