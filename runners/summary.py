"""What a finished run prints: the books as a table, and where to look next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from pipeline.outputs.manifest import Manifest
from pipeline.outputs.report.calls import StepCalls, calls_of, prompt_cache_warning
from pipeline.outputs.report.groups import count_groups, splits_hint
from pipeline.outputs.report.sureness import sureness_hint
from pipeline.outputs.thresholds import quantile_texts, rules_of
from transforms.ledger import Line, read_partial_evidence
from transforms.storage.files import join, read_bytes


def print_summary(manifest: Manifest, lines: Sequence[Line], output: str) -> None:
    """Print the ledger, the size of the training set and the paths of card and report."""
    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.print(ledger_table(lines))
    for part, reasons in read_partial_evidence(read_bytes(join(output, "ledger.json"))).items():
        console.print(f"partial evidence, {part}: {', '.join(f'{n} {reason}' for reason, n in reasons.items())}")
    rows = {table: sum(f.rows or 0 for f in manifest.files if f.path.startswith(f"{table}/")) for table in _COUNTED}
    console.print(", ".join(f"{count} {_COUNTED[table]}" for table, count in rows.items()))
    if not rows["ranking"]:
        lost = "No query became a ranking group: the table says where they were lost, `hardquery explain` why."
        console.print(lost, style="bold yellow")
    if asked := calls_of(manifest.work):
        console.print(calls_table(asked))
    for text in quantile_texts(manifest):
        console.print(text)
    if hint := sureness_hint(manifest.tables(output), lines, rules_of(manifest).alpha1):
        console.print(hint, style="yellow")
    if hint := splits_hint(count_groups(manifest.tables(output)), rows["videos"], manifest.recipe):
        console.print(hint, style="yellow")
    if warning := prompt_cache_warning(manifest):
        console.print(warning, style="yellow")
    console.print(f"finished in {manifest.elapsed_s:.0f} s on {manifest.runner}")
    console.print(f"report: {output}/report.html\ncard:   {output}/README.md")


_COUNTED = {"videos": "videos", "queries": "queries", "ranking": "ranking groups", "perception": "captions"}


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
