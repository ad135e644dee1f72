"""Finishing an output folder: card and report from what is on disk, hashes, and the manifest last."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import fields, replace

from apache_beam.io.filesystems import FileSystems

from pipeline.outputs.card import render_card
from pipeline.outputs.manifest import MANIFEST, MARKER, Manifest, RunInfo, has_manifest, write_manifest
from pipeline.outputs.report import render_report
from pipeline.outputs.summary import summarize
from pipeline.outputs.tables import is_table_file
from transforms.files import join, list_files, open_seekable, write_bytes
from transforms.shards import WrittenFile

ACCOUNTS = ("ledger.json", "qrels.trec", "run.trec")
CARD, REPORT = "README.md", "report.html"


def retract(output: str) -> None:
    """Remove the manifest of an earlier run, if any: from now on the folder is not a finished output.

    A ``manifest.json`` of another program stays. To be called before the first shard is replaced, or a run that is
    killed would leave a manifest that lies.
    """
    if has_manifest(output):
        FileSystems.delete([join(output, MANIFEST)])


def publish(output: str, run: RunInfo, shards: Iterable[WrittenFile]) -> Manifest:
    """Turn a folder with shards, ``ledger.json``, ``qrels.trec`` and ``run.trec`` into a finished output.

    Writes the card and the report, removes the shards of an earlier run (files in the folders of tables that are named
    as shards are and are not among ``shards``, and nothing else), and writes the manifest; then MARKER goes.

    Raises:
        FileNotFoundError: one of the accounts is missing.
    """
    given = {f.name: getattr(run, f.name) for f in fields(RunInfo)}
    files = [*shards, *(describe(output, name) for name in ACCOUNTS)]
    manifest = Manifest(**given, files=tuple(sorted(files, key=lambda file: file.path)))
    summary = summarize(output, manifest)
    write_bytes(join(output, CARD), render_card(summary).encode())
    write_bytes(join(output, REPORT), render_report(output, manifest, summary).encode())
    files += [describe(output, name) for name in (CARD, REPORT)]
    manifest = replace(manifest, files=tuple(sorted(files, key=lambda file: file.path)))
    known = {file.path for file in files}
    stale = [join(output, path) for path in list_files(output) if is_table_file(path) and path not in known]
    if stale:
        FileSystems.delete(stale)
    write_manifest(output, manifest)
    marker = join(output, MARKER)
    if FileSystems.exists(marker):
        FileSystems.delete([marker])
    return manifest


def describe(output: str, path: str) -> WrittenFile:
    """Size and SHA-256 of one file of the output, read in 1 MiB blocks."""
    sha256, size = hashlib.sha256(), 0
    full = join(output, path)
    if not FileSystems.exists(full):
        raise FileNotFoundError(full)
    with open_seekable(full) as stream:
        while block := stream.read(1 << 20):
            sha256.update(block)
            size += len(block)
    return WrittenFile(path, sha256.hexdigest(), size)
