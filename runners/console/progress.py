"""Show how far a run is: a live table on a terminal, a line every few seconds elsewhere, JSON for programs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TextIO

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runners.console.outlook import STEPS, Outlook, StepOutlook
from runners.console.plain_time import plain_time
from schemas.visible import UNREADABLE, visible
from transforms import progress

TICK_S = 0.25
QUIET_S = 60.0  # after so long people ask whether a run is still at work


class View:
    """Somewhere that a run is shown: every so many ticks, at its end, and whenever there is something to be said."""

    every = 1

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to be put back."""

    def show(self, seen: Outlook, said: Sequence[str]) -> None:
        """Show how far the run is, and lines that it has to say."""
        raise NotImplementedError


def watch(over: threading.Event, views: Sequence[View], look: Callable[[], Outlook]) -> None:
    """Show a run in all views until ``over`` is set, and how far it was then."""
    ticks, ended = 0, False
    with ExitStack() as shown:
        for view in views:
            shown.enter_context(view)
        while not ended:
            ended = over.wait(TICK_S)
            ticks += 1
            said = progress.announcements()
            due = [view for view in views if ended or said or ticks % view.every == 0]
            if due:
                seen = look()
                for view in due:
                    view.show(seen, said)


class LiveTable(View):
    """A table on a terminal that is drawn anew in its place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def __enter__(self) -> LiveTable:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, seen: Outlook, said: Sequence[str]) -> None:
        """Lines above, the table below them."""
        for text in said:
            self._console.print(text, highlight=False, soft_wrap=True, markup=False)
        self._live.update(Group(table(seen), Text(time_line(seen))), refresh=True)


class PlainLines(View):
    """A line a step, where it has moved, every ten seconds; the time every minute in any case."""

    every = round(10 / TICK_S)

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._shown: Mapping[str, StepOutlook] = {}
        self._told_s = 0.0

    def show(self, seen: Outlook, said: Sequence[str]) -> None:
        """What was said, what has moved, and the time."""
        for text in said:
            self._say(text)
        now = {step.step: step for step in seen.begun}
        moved = [step for name, step in now.items() if _moves(step) != _moves(self._shown.get(name))]
        for step in moved:
            self._say(step_line(step))
        if moved or seen.elapsed_s - self._told_s >= QUIET_S:
            self._say(time_line(seen))
            self._told_s = seen.elapsed_s
        self._shown = now


class JsonLines(View):
    """An object a line: {"at", "elapsed_s", "left_s", "steps", …} where something has moved, {"at", "said"} else."""

    every = round(2 / TICK_S)

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown: list[object] = []

    def show(self, seen: Outlook, said: Sequence[str]) -> None:
        """What was said, and all counts."""
        for text in said:
            self.say(text)
        moved: list[object] = [_moves(step) for step in seen.steps]
        if moved != self._shown:
            self._write(as_json(seen))
        self._shown = moved

    def say(self, text: str) -> None:
        """A line for people, as an object."""
        self._write({"said": text})

    def _write(self, fields: Mapping[str, object]) -> None:
        line = {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), **fields}
        self._stream.write(msgspec.json.encode(line).decode() + "\n")
        self._stream.flush()


def logged(stream: TextIO) -> Callable[[str], None]:
    """Whoever is told a line writes it to ``stream`` with the time."""

    def say(text: str) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        stream.write(f"{now} {visible(text, UNREADABLE)}\n")
        stream.flush()

    return say


def as_json(seen: Outlook) -> dict[str, object]:
    """The fields of a line for programs; ``left_s`` is null where some step's time is not known."""
    fields: dict[str, object] = msgspec.to_builtins(seen)
    return fields | {"elapsed_s": round(seen.elapsed_s, 1), "left_s": None if seen.unknown else round(seen.left_s, 1)}


def _moves(step: StepOutlook | None) -> object:
    return step and (step.ended, step.due, step.exact)


def table(seen: Outlook) -> Table:
    """A row a step that has begun or will; "about" before an estimate."""
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown.add_column("step")
    for name in ("done", "cached", "rate", "left", "lost"):
        shown.add_column(name, justify="right", no_wrap=True)
    for step in seen.steps:
        lost = ", ".join(_lost(step))
        shown.add_row(
            STEPS[step.step],
            _done(step),
            f"{step.cached:,}" if step.cached else "",
            _rate(step),
            "" if step.over or not step.left_s else plain_time(step.left_s),
            f"[red]{lost}[/red]" if step.failed else lost,
        )
    return shown


def step_line(step: StepOutlook) -> str:
    """One step in a line."""
    cached = f" ({step.cached:,} cached)" if step.cached else ""
    more = [part for part in (_rate(step), *_lost(step)) if part]
    return ", ".join([f"{STEPS[step.step]}: {_done(step)}{cached}", *more])


def time_line(seen: Outlook) -> str:
    """How long the run has taken and what it has spent, and how long the rest will take, as far as that is known."""
    parts = [f"{plain_time(seen.elapsed_s)} so far"]
    names = ", ".join(STEPS[step] for step in seen.unknown)
    if seen.unknown:
        known = f"more than {plain_time(seen.left_s)} left" if seen.left_s >= 1 else "time left not known yet"
        parts.append(f"{known} (no pace yet: {names})")
    elif seen.left_s:
        parts.append(f"about {plain_time(seen.left_s)} left")
    if seen.bill.tokens:
        parts.append(f"{seen.bill.calls:,} calls, {seen.bill.tokens:,} tokens")
    if seen.bill.dollars:
        parts.append(f"${seen.bill.dollars:,.2f}")
    return ", ".join(parts)


def _done(step: StepOutlook) -> str:
    return f"{step.ended:,} of {'' if step.exact else 'about '}{step.due:,}"


def _rate(step: StepOutlook) -> str:
    rate = step.rate_per_s
    return "" if not rate else f"{rate:,.1f}/s" if rate >= 1 else f"{60 * rate:,.1f}/min"


def _lost(step: StepOutlook) -> list[str]:
    kinds = (("failed", step.failed), ("rejected", step.rejected), ("left for later", step.deferred))
    return [f"{count:,} {kind}" for kind, count in kinds if count]
