"""Breaking an output in one place, and what ``verify`` says of it."""

from __future__ import annotations

from dataclasses import replace

from pipeline.outputs.manifest import read_manifest, write_manifest
from pipeline.outputs.publish import describe
from pipeline.outputs.verify.verify import verify
from tests.support.tiny_output import other_tables


def problems(output):
    return [str(problem) for problem in verify(str(output))]


def rewrite(output, rows):
    """Write other rows, and a manifest that knows them: the files are as declared, what they say is not."""
    manifest = read_manifest(str(output))
    written = {file.path: file for file in other_tables(str(output), manifest, rows)}
    write_manifest(str(output), replace(manifest, files=tuple(written.get(f.path, f) for f in manifest.files)))


def retell(output, name, text):
    """Replace a text file, and its hash in the manifest."""
    (output / name).write_text(text)
    declare(output, describe(str(output), name))


def declare(output, file):
    """Make the manifest say this of a file."""
    manifest = read_manifest(str(output))
    files = tuple(file if known.path == file.path else known for known in manifest.files)
    write_manifest(str(output), replace(manifest, files=files))


def rows_of(rows, table, **wanted):
    """The rows of a table with these values, in order."""
    return [row for _, row in rows[table] if all(row[key] == value for key, value in wanted.items())]
