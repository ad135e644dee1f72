"""Completing an output: card, report and manifest, from what is staged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields, replace

from pipeline.outputs.manifest import (
    Manifest,
    RunInfo,
    write_manifest,
)
from pipeline.outputs.publish import _by_path, describe
from pipeline.outputs.report.card import render_card
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from pipeline.outputs.run_lines import run_files, runs_of
from transforms.emit.shards import WrittenFile
from transforms.storage.files import join, write_bytes

ACCOUNTS = ("ledger.json", "qrels.trec")
CARD, REPORT = "README.md", "report.html"


def complete(folder: str, run: RunInfo, shards: Iterable[WrittenFile]) -> Manifest:
    """Turn a folder with shards, ``ledger.json``, ``qrels.trec`` and its runs into a finished output.

    Writes the card, the report, and the manifest last.

    Raises:
        FileNotFoundError: one of the accounts is missing.
    """
    given = {f.name: getattr(run, f.name) for f in fields(RunInfo)}
    accounts = (*ACCOUNTS, *run_files(runs_of(run.recipe)))
    files = [*shards, *(describe(folder, name) for name in accounts)]
    return tell(folder, folder, Manifest(**given, files=_by_path(files)))


def tell(output: str, folder: str, manifest: Manifest) -> Manifest:
    """Write into ``folder`` the card and the report of what lies at ``output``, and the manifest last."""
    summary = summarize(output, manifest)
    write_bytes(join(folder, CARD), render_card(summary).encode())
    write_bytes(join(folder, REPORT), render_report(output, manifest, summary).encode())
    others = [file for file in manifest.files if file.path not in (CARD, REPORT)]
    manifest = replace(manifest, files=_by_path([*others, *(describe(folder, name) for name in (CARD, REPORT))]))
    write_manifest(folder, manifest)
    return manifest
