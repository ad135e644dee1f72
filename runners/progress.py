"""Show how far a run is: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table

from transforms import progress

# Steps in the order in which they happen, and what each counts.
STEPS = {
    "decode": "videos decoded",
    "asr": "videos transcribed",
    "ocr": "videos read (OCR)",
    "caption": "videos captioned",
    "write": "prompts answered (queries)",
    "retrieve": "queries searched",
    "judge": "pairs judged",
    "emit": "shards written",
}
_QUIET_PERIOD_S = 10.0


@dataclass(frozen=True, slots=True)
class StepView:
    """One row of the display: what is done of what is known to be due; the rate is over the step's own time."""

    step: str
    done: int
    due: int
    failed: int
    rate_per_s: float


class Watcher:
    """Reads the process's counters and turns them into rows."""

    def __init__(self, clock: object = time.monotonic) -> None:
        self._clock = clock
        self._first_seen: dict[str, float] = {}
        self._last: dict[str, tuple[int, float]] = {}

    def views(self, counts: Mapping[tuple[str, str], int]) -> list[StepView]:
        """Rows of the steps that have begun."""
        now = self._clock()  # type: ignore[operator]
        rows = []
        for step in STEPS:
            due, done, failed = (counts.get((step, outcome), 0) for outcome in ("in", "done", "failed"))
            if not due and not done:
                continue
            start = self._first_seen.setdefault(step, now)
            if self._last.get(step, (-1, 0.0))[0] != done + failed:
                self._last[step] = (done + failed, now)
            elapsed = self._last[step][1] - start
            rows.append(StepView(step, done, max(due, done + failed), failed, done / elapsed if elapsed > 0 else 0.0))
        return rows


def watch(over: threading.Event, console: Console) -> None:
    """Show progress until ``over`` is set."""
    watcher = Watcher()
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            while not over.wait(0.25):
                live.update(_table(watcher.views(progress.snapshot())))
            live.update(_table(watcher.views(progress.snapshot())))
        return
    shown: list[StepView] = []
    while not over.wait(_QUIET_PERIOD_S):
        views = watcher.views(progress.snapshot())
        for view in views:
            if view not in shown:
                console.print(_line(view), highlight=False)
        shown = views
    for view in watcher.views(progress.snapshot()):
        if view not in shown:
            console.print(_line(view), highlight=False)


def _table(views: list[StepView]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in ("done", "rate", "failed"):
        table.add_column(name, justify="right")
    for view in views:
        failed = f"[red]{view.failed}[/red]" if view.failed else "0"
        table.add_row(STEPS[view.step], f"{view.done}/{view.due}", f"{view.rate_per_s:.1f}/s", failed)
    return table


def _line(view: StepView) -> str:
    failed = f", {view.failed} failed" if view.failed else ""
    return f"{STEPS[view.step]}: {view.done}/{view.due}, {view.rate_per_s:.1f}/s{failed}"
