"""Verification: whether an output folder is what its manifest says, in files, schemas, rows and accounts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.outputs.manifest import MANIFEST, Manifest, read_manifest
from pipeline.outputs.problem import Problem
from pipeline.outputs.publish import describe
from pipeline.outputs.verify_rows import check_rows
from pipeline.outputs.verify_runs import check_qrels, check_run
from schemas.tables import TABLES, Table
from transforms.files import join, list_files, open_seekable, read_bytes
from transforms.ledger import Line, read_ledger
from transforms.shards import WrittenFile

EXPORTS_FOLDER = "exports/"

_ROWS_LEAVING = {
    ("extract", "deduplicate"): "videos",
    ("judge", "judge"): "judgements",
    ("curate", "queries"): "ranking",
}
_COUNTED_IN_JUDGEMENTS = ("curate", "pairs")  # the reasons of pairs stand in their own table, not among the rejections


def verify(output: str) -> list[Problem]:
    """Everything that is wrong with a finished output; rows are looked at only where all shards can be read.

    Memory grows with the number of ids and of kept pairs, not with evidence, replies or frames.

    Raises:
        NotAnOutput: there is no manifest that can be read.
    """
    manifest = read_manifest(output)
    present = set(list_files(output))
    problems = list(_check_files(output, manifest, present))
    unreadable = list(_check_shards(output, manifest, present))
    problems += unreadable
    if not unreadable and all(file.path in present for file in manifest.files):
        tables = manifest.tables(output)
        problems += check_rows(tables, manifest.recipe)
        problems += check_run(tables)
        problems += check_qrels(tables)
        problems += _check_ledger(output, manifest)
    return problems


def verdict(output: str, problems: list[Problem], shown: int = 50) -> str:
    """What verification found, for people: one line where all is well, else one line a problem."""
    if not problems:
        manifest = read_manifest(output)
        tables = manifest.tables(output)
        rows = ", ".join(f"{tables.count(name):,} {name}" for name in TABLES)
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
        found = describe(output, file.path)
        if found.size_bytes != file.size_bytes:
            yield Problem(file.path, f"changed: {found.size_bytes} bytes, the manifest says {file.size_bytes}")
        elif found.sha256 != file.sha256:
            yield Problem(file.path, f"changed: SHA-256 {found.sha256[:12]}…, the manifest says {file.sha256[:12]}…")
    for path in sorted(present - {file.path for file in manifest.files} - {MANIFEST}):
        if not path.startswith(EXPORTS_FOLDER):
            yield Problem(path, "extra: not in the manifest")


def _check_shards(output: str, manifest: Manifest, present: set[str]) -> Iterator[Problem]:
    tables = manifest.tables(output)
    for table in TABLES.values():
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


def _check_ledger(output: str, manifest: Manifest) -> Iterator[Problem]:
    try:
        lines = read_ledger(read_bytes(join(output, "ledger.json")))
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        yield Problem("ledger.json", f"cannot be read: {error}")
        return
    tables = manifest.tables(output)
    for line in lines:
        step = (line.stage, line.step)
        if line.missing:
            yield Problem("ledger.json", f"does not balance: {line.missing:+d} items", "/".join(step))
        table = line.step if line.stage == "emit" and line.step in TABLES else _ROWS_LEAVING.get(step)
        if table and line.left != tables.count(table):
            yield Problem("ledger.json", f"{line.left} left, {table} has {tables.count(table)} rows", "/".join(step))
    stated = {
        "rejections": Counter(_reasons(lines, "rejected", without=_COUNTED_IN_JUDGEMENTS)),
        "failures": Counter(_reasons(lines, "failed")),
        "judgements": Counter(
            {key: n for key, n in _reasons(lines, "rejected").items() if key[:2] == _COUNTED_IN_JUDGEMENTS}
        ),
    }
    counted = {
        "rejections": Counter(
            (r["stage"], r["step"], r["reason"]) for r in tables.rows("rejections", ["stage", "step", "reason"])
        ),
        "failures": Counter(
            (r["stage"], r["step"], r["error_class"]) for r in tables.rows("failures", ["stage", "step", "error_class"])
        ),
        "judgements": Counter(
            (*_COUNTED_IN_JUDGEMENTS, r["reason"])
            for r in tables.rows("judgements", ["kept", "reason"])
            if not r["kept"]
        ),
    }
    for name, found in counted.items():
        for key in sorted(found.keys() | stated[name].keys()):
            if found[key] != stated[name][key]:
                rule = f"{stated[name][key]} in the ledger, {found[key]} in {name}"
                yield Problem("ledger.json", rule, "/".join(key))


def _reasons(
    lines: list[Line], outcome: str, without: tuple[str, str] | None = None
) -> dict[tuple[str, str, str], int]:
    return {
        (line.stage, line.step, reason): count
        for line in lines
        if (line.stage, line.step) != without
        for reason, count in getattr(line, outcome).items()
    }
