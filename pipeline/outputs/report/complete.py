"""Completing an output: card, report and manifest, from what is staged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from pipeline.outputs.tables import Tables
from transforms.emit.shards import WrittenFile
from transforms.storage.files import join, write_bytes
from transforms.storage.trec import write_lines

ACCOUNTS = ("ledger.json", "qrels.trec")
CARD, REPORT, QUERIES = "README.md", "report.html", "queries.tsv"


def complete(folder: str, run: RunInfo, shards: Iterable[WrittenFile]) -> Manifest:
    """Turn a folder with shards, ``ledger.json``, ``qrels.trec`` and its runs into a finished output.

    Writes the texts of the queries that the runs have, the card, the report, and the manifest last.

    Raises:
        FileNotFoundError: one of the accounts is missing.
    """
    given = {f.name: getattr(run, f.name) for f in fields(RunInfo)}
    shards = list(shards)
    write_lines(join(folder, QUERIES), _queries_lines(Tables(folder, tuple(shards))))
    accounts = (*ACCOUNTS, QUERIES, *run_files(runs_of(run.recipe)))
    files = [*shards, *(describe(folder, name) for name in accounts)]
    return tell(folder, folder, Manifest(**given, files=_by_path(files)))


def _queries_lines(tables: Tables) -> Iterator[str]:
    """``id<TAB>text`` of every query that came as far as the first stages, for whoever reads ``run.trec``."""
    for row in tables.rows("queries", ["query_id", "text", "stage"]):
        if row["stage"] != "synthesize":
            yield f"{row['query_id']}\t{' '.join(row['text'].split())}"


def tell(output: str, folder: str, manifest: Manifest) -> Manifest:
    """Write into ``folder`` the card and the report of what lies at ``output``, and the manifest last."""
    summary = summarize(output, manifest)
    write_bytes(join(folder, CARD), render_card(summary).encode())
    write_bytes(join(folder, REPORT), render_report(output, manifest, summary).encode())
    others = [file for file in manifest.files if file.path not in (CARD, REPORT)]
    manifest = replace(manifest, files=_by_path([*others, *(describe(folder, name) for name in (CARD, REPORT))]))
    write_manifest(folder, manifest)
    return manifest
