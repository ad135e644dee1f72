import io
import threading

import apache_beam as beam
from apache_beam.testing.test_pipeline import TestPipeline
from rich.console import Console

from runners.progress import Watcher, watch
from transforms import progress
from transforms.progress import Advance


def test_steps_show_done_of_due_with_their_rate():
    clock = iter([0.0, 2.0])
    watcher = Watcher(lambda: next(clock))
    watcher.views({("decode", "in"): 10})

    [view] = watcher.views({("decode", "in"): 10, ("decode", "done"): 4, ("decode", "failed"): 1})

    assert (view.done, view.due, view.failed, view.rate_per_s) == (4, 10, 1, 2.0)


def test_steps_that_have_not_begun_are_not_shown():
    assert Watcher().views({}) == []


def test_without_a_terminal_the_final_counts_are_plain_lines():
    progress.reset()
    progress.advance("judge", "in", 3)
    progress.advance("judge", "done", 2)
    progress.advance("judge", "failed")
    over, text = threading.Event(), io.StringIO()
    over.set()

    watch(over, Console(file=text, force_terminal=False, width=100))

    assert text.getvalue() == "pairs judged: 2/3, 0.0/s, 1 failed\n"


def test_a_pipeline_counts_what_passes_through():
    progress.reset()
    with TestPipeline(runner="FnApiRunner") as p:
        _ = p | beam.Create(["a", "b"]) | Advance("decode", "done")

    assert progress.snapshot()["decode", "done"] == 2
