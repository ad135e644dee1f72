"""What a finished run prints: what was kept, what was lost and by what, what it took, and where to look next."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.report.calls import StepCalls, calls_of, prompt_cache_warning
from pipeline.outputs.report.groups import count_groups, splits_hint
from pipeline.outputs.report.sureness import sureness_hint
from pipeline.outputs.thresholds import fitted_texts, rules_of
from runners.console.plain_time import plain_time
from schemas.visible import visible
from transforms.journal.budget import Cost
from transforms.ledger import Line, read_partial_evidence
from transforms.storage.files import join, read_bytes

_NAMED = 5  # reasons, and files that failed
_COUNTED = {"videos": "videos", "queries": "queries", "ranking": "ranking groups", "perception": "captions"}


def print_summary(
    manifest: Manifest, lines: Sequence[Line], output: str, command: str = "", verbose: bool = False
) -> None:
    """Print the end of a run in a few lines, and the whole ledger where it is to be ``verbose``.

    ``command`` is what to type for what a budget left undone.
    """
    console = Console(highlight=False, soft_wrap=True, markup=False)
    rows = {table: sum(f.rows or 0 for f in manifest.files if f.path.startswith(f"{table}/")) for table in _COUNTED}
    asked = calls_of(manifest.work)
    if verbose:
        _print_all(console, lines, asked, output)
    console.print(f"kept:  {', '.join(f'{count:,} {_COUNTED[table]}' for table, count in rows.items())}")
    if lost := _lost_most_by(lines):
        console.print(f"lost:  {lost}")
    if failed := list(_failed_files(manifest, output)):
        console.print(f"files that failed: {'; '.join(failed)}", style="yellow")
    console.print(f"took:  {', '.join(_took(manifest, asked))}")
    reasons = Counter[str]()
    for line in lines:
        reasons.update(line.deferred)
    if reasons:
        _print_deferred(console, reasons, command)
    elif not rows["ranking"]:
        lost = "No query became a ranking group: `-v` shows where they were lost, `hardquery explain` why."
        console.print(lost, style="bold yellow")
    for text in fitted_texts(manifest):
        console.print(f"curate: {text}")
    hints = (
        sureness_hint(manifest.tables(output), lines, rules_of(manifest).alpha1),
        splits_hint(count_groups(manifest.tables(output)), rows["videos"], manifest.recipe),
        prompt_cache_warning(manifest),
    )
    for hint in filter(None, hints):
        console.print(hint, style="yellow")
    console.print(f"open:  {output}/report.html (card: {output}/README.md; all steps: -v)")


def _lost_most_by(lines: Iterable[Line]) -> str:
    """``40 not retrievable (mine), …``, the most frequent reasons first."""
    lost = Counter[tuple[str, str]]()
    for line in lines:
        for group in (line.rejected, line.failed):
            lost.update({(line.stage, reason): count for reason, count in group.items()})
    named = [f"{count:,} {reason} ({stage})" for (stage, reason), count in lost.most_common(_NAMED)]
    return ", ".join([*named, *(["…"] if len(lost) > _NAMED else [])])


def _failed_files(manifest: Manifest, output: str) -> Iterator[str]:
    """The first files that failed, with the error; and how many more."""
    count = 0
    for row in manifest.tables(output).rows("failures", ["stage", "uri", "error_class"]):
        if row["stage"] != "extract" or not row["uri"]:
            continue
        count += 1
        if count <= _NAMED:
            yield visible(f"{os.path.basename(row['uri'])} ({row['error_class']})", "?")
    if count > _NAMED:
        yield f"{count - _NAMED:,} more in the report"
    if count:
        yield f"why: hardquery explain {output} FILE"


def _took(manifest: Manifest, asked: Sequence[StepCalls]) -> Iterator[str]:
    yield plain_time(manifest.elapsed_s)
    if not asked:
        yield "no calls to servers"
        return
    yield f"{sum(calls.made for calls in asked):,} calls"
    read, written = (sum(getattr(calls, f"{way}_tokens") for calls in asked) for way in ("input", "output"))
    yield f"{read:,} tokens in and {written:,} out"
    dollars = sum(_dollars(calls, manifest.recipe.get("costs", {})) for calls in asked)
    if dollars:
        yield f"${dollars:,.2f}"


def _dollars(calls: StepCalls, costs: Mapping[str, Mapping[str, float]]) -> float:
    return Cost(**costs.get(calls.step, {})).dollars(calls.input_tokens, calls.output_tokens, calls.cached_tokens)


def _print_deferred(console: Console, reasons: Mapping[str, int], command: str) -> None:
    """Say that the run is not at its end, why, and what goes on with it."""
    by = ", ".join(f"{count:,} by {reason}" for reason, count in reasons.items())
    said = f"Not at its end: work was left for later ({by}). What is complete was published, and is sound."
    console.print(said, style="bold yellow")
    if command:
        console.print(f"the same command goes on where this one stopped: {command}")


def _print_all(console: Console, lines: Sequence[Line], asked: Sequence[StepCalls], output: str) -> None:
    console.print(ledger_table(lines))
    for part, reasons in read_partial_evidence(read_bytes(join(output, "ledger.json"))).items():
        console.print(f"partial evidence, {part}: {', '.join(f'{n} {reason}' for reason, n in reasons.items())}")
    if asked:
        console.print(calls_table(asked))


def ledger_table(lines: Iterable[Line]) -> Table:
    """The ledger as a table: one row a step, its losses by reason."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (("stage", "left"), ("step", "left"), ("in", "right"), ("out", "right"), ("left out", "left")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    for line in lines:
        losses = [_losses(line.rejected, ""), _losses(line.failed, "failed: "), _losses(line.deferred, "deferred: ")]
        table.add_row(
            line.stage, line.step, str(line.entered), str(line.left), "; ".join(part for part in losses if part)
        )
    return table


def calls_table(asked: Iterable[StepCalls]) -> Table:
    """What the calls to servers took: one row a step; "-" is not known."""
    table = Table(box=None, pad_edge=False)
    table.add_column("asked")
    for name in ("calls", "requests", "retries", "tokens in", "of them cached", "tokens out", "of them reasoning"):
        table.add_column(name, justify="right")
    for calls in asked:
        share = calls.cached_share
        table.add_row(
            calls.step,
            *(f"{count:,}" for count in (calls.made, calls.requests, calls.retries)),
            f"{calls.input_tokens:,}" if calls.input_tokens else "-",
            "-" if share is None else f"{share:.0%}",
            f"{calls.output_tokens:,}" if calls.output_tokens else "-",
            f"{calls.reasoning_tokens:,}" if calls.reasoning_tokens else "-",
        )
    return table


def _losses(group: Mapping[str, int], prefix: str) -> str:
    return prefix + ", ".join(f"{count} {reason}" for reason, count in group.items()) if group else ""
