"""Two tiny outputs that differ, and what ``diff`` says of them."""

from __future__ import annotations

from dataclasses import replace

from pipeline.outputs.diff.diff import diff
from pipeline.outputs.diff.text import Examples, diff_text
from pipeline.outputs.manifest import write_manifest
from schemas.tables import TABLES
from tests.support.tiny_output import tiny_rows, write_rows, write_tiny


def output(folder, rows=None, recipe=None, engines=None, prompts=None, **fields):
    """A tiny output of these rows, with other values in its manifest; its pages are those of the valid rows."""
    manifest = write_tiny(folder) if rows is None else write_rows(folder, rows)
    for key, value in (recipe or {}).items():
        manifest = replace(manifest, recipe=set_value(manifest.recipe, key.split("."), value))
    manifest = replace(manifest, engines=manifest.engines | (engines or {}), **fields)
    write_manifest(str(folder), replace(manifest, prompts=manifest.prompts | (prompts or {})))
    return str(folder)


def set_value(section, path, value):
    first, *rest = path
    return {**section, first: set_value(section.get(first, {}), rest, value) if rest else value}


def found_rows(a, b):
    """The Diff, and its rows by table."""
    rows = {name: [] for name in TABLES}
    found = diff(a, b, lambda *_: True, lambda row: rows[row.change.table].append(row))
    return found, rows


def text(a, b, limit=10):
    examples = Examples(limit)
    return diff_text(diff(a, b, examples.wanted, examples.add), examples)


def why(rows):
    return {"; ".join(map(str, row.causes)) for row in rows}


def given(found):
    return [str(cause) for cause in found.given.all()]


def edited(table, edit, of=lambda row: True):
    rows = tiny_rows()
    for _, row in rows[table]:
        if of(row):
            edit(row)
    return rows
