"""Show how far a run is: a live table on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from rich.console import Console
from rich.live import Live
from rich.table import Table

from transforms import progress
from transforms.progress import StepCount

# Steps in the order in which they happen, and what each counts.
STEPS = {
    "decode": "videos decoded",
    "asr": "videos transcribed",
    "ocr": "videos read (OCR)",
    "caption": "videos captioned",
    "frame_hashes": "videos hashed",
    "write": "prompts answered (queries)",
    "embed_video": "videos embedded",
    "embed_query": "queries embedded",
    "retrieve": "queries searched",
    "judge": "pairs judged",
    "panel": "doubtful pairs judged again",
    "negatives": "prompts answered (negative queries)",
    "verify": "negative queries verified",
    "emit": "shards written",
}
_QUIET_PERIOD_S = 10.0


def watch(over: threading.Event, console: Console) -> None:
    """Show progress until ``over`` is set."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=False) as live:
            while not over.wait(0.25):
                _announce(console)
                live.update(_table(progress.snapshot()))
            _announce(console)
            live.update(_table(progress.snapshot()))
        return
    shown: Mapping[str, StepCount] = {}
    ended = False
    while not ended:
        ended = over.wait(_QUIET_PERIOD_S)
        counts = progress.snapshot()
        _announce(console)
        for step in STEPS:
            if step in counts and counts[step] != shown.get(step):
                console.print(_line(step, counts[step]), highlight=False)
        shown = counts


def _announce(console: Console) -> None:
    for text in progress.announcements():
        console.print(text, highlight=False, soft_wrap=True, markup=False)


def _table(counts: Mapping[str, StepCount]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for name in ("done", "cached", "rate", "failed"):
        table.add_column(name, justify="right")
    for step, name in STEPS.items():
        if step in counts:
            count = counts[step]
            failed = f"[red]{count.failed}[/red]" if count.failed else "0"
            table.add_row(name, f"{count.done}/{count.due}", str(count.cached), f"{count.rate_per_s:.1f}/s", failed)
    return table


def _line(step: str, count: StepCount) -> str:
    cached = f" ({count.cached} cached)" if count.cached else ""
    failed = f", {count.failed} failed" if count.failed else ""
    return f"{STEPS[step]}: {count.done}/{count.due}{cached}, {count.rate_per_s:.1f}/s{failed}"
