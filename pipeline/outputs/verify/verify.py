"""Verification: whether an output folder is what its manifest says, in files, schemas, rows and accounts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.outputs.errors import NotAnOutput, UnreadableOutput
from pipeline.outputs.manifest import MANIFEST, SOURCE, Manifest, manifest_sha256, read_manifest
from pipeline.outputs.marks import AUDIT_FOLDER, LABELS
from pipeline.outputs.problem import Problem
from pipeline.outputs.publish import describe
from pipeline.outputs.staging import list_output
from pipeline.outputs.tables import written
from pipeline.outputs.thresholds import check_thresholds
from pipeline.outputs.verify.batches import check_rows
from pipeline.outputs.verify.ledger import check_ledger
from pipeline.outputs.verify.runs import check_trec
from schemas.check import read_json
from schemas.tables import Table
from transforms.emit.shards import WrittenFile
from transforms.storage.files import join, open_seekable, read_bytes

EXPORTS_FOLDER = "exports/"


def verify(output: str) -> list[Problem]:
    """Everything that is wrong with a finished output; rows are looked at only where every file is as declared.

    Memory grows with the number of queries and of kept pairs, not with evidence, replies or frames.

    Raises:
        NotAnOutput: there is no manifest that can be read, or a run has published to the folder in the meantime.
    """
    manifest = read_manifest(output)
    present = set(list_output(output))
    damaged = [*_check_files(output, manifest, present), *_check_shards(output, manifest, present)]
    problems = [*damaged, *_check_others(manifest, present), *_check_exports(output, present)]
    if not damaged:
        problems += _check_content(output, manifest)
    if problems and read_manifest(output) != manifest:
        raise NotAnOutput(f"{output} has been published anew while it was verified: verify it again")
    return problems


def check_staged(staging: str, manifest: Manifest, most: int = 50) -> list[Problem]:
    """What is wrong with an output that has just been written, ``most`` problems at most.

    These are the rules of ``verify``, but for the hashes: they were taken as the files were written, a moment ago.
    """
    damaged = list(_check_shards(staging, manifest, set(list_output(staging))))
    return damaged or list(islice(_check_content(staging, manifest), most))


def _check_content(output: str, manifest: Manifest) -> Iterator[Problem]:
    """Rows, runs and accounts of an output whose shards are as the manifest says.

    Runs and accounts are held against rows, and so looked at only where all rows have what a row must.
    """
    tables = manifest.tables(output)
    try:
        if not (yield from check_rows(tables, manifest)):
            return
        yield from check_thresholds(tables, manifest)
        yield from check_trec(tables, manifest.recipe)
        yield from check_ledger(tables, manifest.entries)
    except UnreadableOutput as error:
        yield Problem(error.file, f"cannot be read: {error.reason}")


def verdict(output: str, problems: list[Problem], shown: int = 50) -> str:
    """What verification found, for people: one line where all is well, else one line a problem."""
    if not problems:
        manifest = read_manifest(output)
        tables = manifest.tables(output)
        rows = ", ".join(f"{tables.count(table.name):,} {table.name}" for table in written(manifest.recipe))
        return f"{output} is sound: {len(manifest.files)} files as in the manifest; {rows}"
    lines = [str(problem) for problem in problems[:shown]]
    if len(problems) > shown:
        lines.append(f"… and {len(problems) - shown} more")
    return "\n".join([*lines, f"{output} has {len(problems)} problem{'s' * (len(problems) > 1)}"])


def _check_files(output: str, manifest: Manifest, present: set[str]) -> Iterator[Problem]:
    for file in manifest.files:
        if file.path not in present:
            yield Problem(file.path, "missing")
            continue
        try:
            found = describe(output, file.path)
        except OSError as error:
            yield Problem(file.path, f"cannot be read: {error}")
            continue
        if found.size_bytes != file.size_bytes:
            yield Problem(file.path, f"changed: {found.size_bytes} bytes, the manifest says {file.size_bytes}")
        elif found.sha256 != file.sha256:
            yield Problem(file.path, f"changed: SHA-256 {found.sha256[:12]}…, the manifest says {file.sha256[:12]}…")


def _check_others(manifest: Manifest, present: set[str]) -> Iterator[Problem]:
    for path in sorted(present - {file.path for file in manifest.files} - {MANIFEST}):
        if path != LABELS and not path.startswith((EXPORTS_FOLDER, AUDIT_FOLDER)):
            yield Problem(path, "extra: not in the manifest")


def _check_exports(output: str, present: set[str]) -> Iterator[Problem]:
    for path in sorted(present):
        if path.startswith(EXPORTS_FOLDER) and path.endswith(f"/{SOURCE}"):
            try:
                source = read_json(read_bytes(join(output, path)), dict[str, str])
            except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
                yield Problem(path, f"cannot be read: {error}")
                continue
            if source.get("manifest_sha256") != manifest_sha256(output):
                yield Problem(path, "export of an earlier run: run hardquery export again")


def _check_shards(output: str, manifest: Manifest, present: set[str]) -> Iterator[Problem]:
    tables = manifest.tables(output)
    for table in written(manifest.recipe):
        for part in table.parts:
            shards = tables.shards(table.name, part)
            if [shard.path for shard in shards] != [table.shard_path(part, i, len(shards)) for i in range(len(shards))]:
                yield Problem(f"{table.name}/", f"the {part} shards in the manifest are not a whole set")
            elif not shards:
                yield Problem(f"{table.name}/", f"the manifest lists no {part} shard")
            for shard in shards:
                if shard.path in present:
                    yield from _check_shard(output, table, shard)


def _check_shard(output: str, table: Table, shard: WrittenFile) -> Iterator[Problem]:
    try:
        with open_seekable(join(output, shard.path)) as stream:
            file = pq.ParquetFile(stream)
            schema, rows = file.schema_arrow, file.metadata.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        yield Problem(shard.path, f"not a Parquet file: {error}")
        return
    if not schema.equals(table.arrow_schema, check_metadata=False):
        yield Problem(
            shard.path, f"its columns are not those of {table.name}: {_difference(schema, table.arrow_schema)}"
        )
    elif dict(schema.metadata or {}) != dict(table.arrow_schema.metadata):
        yield Problem(shard.path, "its schema's metadata (version and features) is not this version's")
    if rows != shard.rows:
        yield Problem(shard.path, f"{rows} rows, the manifest says {shard.rows}")


def _difference(found: pa.Schema, wanted: pa.Schema) -> str:
    for name in wanted.names:
        if name not in found.names:
            return f"{name} is missing"
        if found.field(name).type != wanted.field(name).type:
            return f"{name} is {found.field(name).type}"
    return f"{', '.join(sorted(set(found.names) - set(wanted.names))) or 'the order'} is unexpected"
