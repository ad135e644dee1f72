"""Finishing an output: from the shards and counts that a graph left in its staging folder to what readers see."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import msgspec

from pipeline.emit import COUNTS, QRELS, Counts
from pipeline.outputs.errors import StepLost, UnsoundOutput
from pipeline.outputs.lock import Confirm
from pipeline.outputs.manifest import Manifest, RunInfo, has_manifest, read_manifest
from pipeline.outputs.publish import publish
from pipeline.outputs.report.complete import complete
from pipeline.outputs.run_lines import run_files, runs_of
from pipeline.outputs.staging import JOB, staging_of
from pipeline.outputs.tables import Tables
from pipeline.outputs.verify.verify import check_staged
from pipeline.stage import Step
from schemas.check import read_json
from transforms.emit.write_parts import join_parts
from transforms.extract.attempt import ENGINE_FAILED
from transforms.ledger import Line, check_balance, ledger_json, lines_of, read_ledger
from transforms.storage.files import delete, exists, join, read_bytes, write_bytes


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """A run whose graph was built: the file ``.job.json`` of an output that somebody else than its driver may finish.

    ``steps`` are the ledger's lines in order, ``parts`` those of each TREC file. ``job`` is what the runner calls it,
    ``page`` where it can be watched, ``flags`` the options of Beam that find it again; all empty where it runs in this
    process.
    """

    info: RunInfo
    steps: tuple[Step, ...]
    parts: int
    job: str = ""
    page: str = ""
    flags: tuple[str, ...] = ()


def write_submitted(output: str, submitted: Submitted) -> None:
    """Have the run found by whoever looks at its output next."""
    write_bytes(join(output, JOB), msgspec.json.encode(submitted))


def read_submitted(output: str) -> Submitted | None:
    """The run that was submitted for an output and is not finished; None where there is none that can be read."""
    try:
        return read_json(read_bytes(join(output, JOB)), Submitted)
    except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def forget_submitted(output: str) -> None:
    """The run is over, and nobody need look for it any more."""
    if exists(join(output, JOB)):
        delete([join(output, JOB)])


def is_computed(output: str) -> bool:
    """Whether a graph has come to its end, and what is left is to finish its output: its counts are written last."""
    staging = staging_of(output)
    return exists(join(staging, COUNTS)) or has_manifest(staging)


def publish_finished(output: str, submitted: Submitted, confirm: Confirm) -> tuple[Manifest, list[Line]]:
    """What a driver does after the graph: accounts, card, report, manifest, verification, and publication.

    To be called by the holder of the lock, whose ``confirm`` it gives. Killed at any moment, it can be called again.
    Raises what ``execute`` raises of it.
    """
    manifest, lines = finish(output, submitted)
    require_sound(staging_of(output), manifest)
    confirm()
    publish(output)
    forget_submitted(output)
    return manifest, lines


def finish(output: str, submitted: Submitted) -> tuple[Manifest, list[Line]]:
    """From staged shards and counts to a finished output: ledger, TREC files, card, report, and the manifest last."""
    staging, info = staging_of(output), submitted.info
    if has_manifest(staging):  # of a driver that was killed between this and publication
        return read_manifest(staging), read_ledger(read_bytes(join(staging, "ledger.json")))
    counts = read_json(read_bytes(join(staging, COUNTS)), Counts)
    lines = lines_of(counts.tallies, submitted.steps)
    warnings: dict[str, dict[str, int]] = defaultdict(dict)
    for part, reason, count in sorted(counts.warnings):
        warnings[part][reason] = count
    work: dict[str, dict[str, int]] = defaultdict(dict)
    for step, name, amount in sorted(counts.work):
        work[step][name] = amount
    write_bytes(join(staging, "ledger.json"), ledger_json(lines, warnings))
    check_balance(lines, info.entries)
    refuse_lost(lines, warnings, Tables(staging, counts.files))
    for name in (*run_files(runs_of(info.recipe)), QRELS):
        join_parts(staging, name, submitted.parts)
    elapsed_s = (datetime.now(UTC) - datetime.fromisoformat(info.created)).total_seconds()
    info = replace(
        info,
        elapsed_s=round(elapsed_s, 1),
        work=work,
        thresholds=next(iter(counts.thresholds), None),
        margin=next(iter(counts.margin), None),
    )
    manifest = complete(staging, info, counts.files)
    delete([join(staging, COUNTS)])  # what is left is the output, and can be looked at as one
    return manifest, lines


def refuse_lost(lines: Iterable[Line], partial_evidence: Mapping[str, Mapping[str, int]], tables: Tables) -> None:
    """Raise StepLost where a step has nothing to show but failures, and say of what kind they are.

    Rejections and deferrals are no failures; they count as lost where they stand beside failures and nothing came out.
    An engine that makes a part of the evidence lost all where it failed on every video; a video that is too much for
    the time or memory of a child process is no engine's failure.
    """
    for line in lines:
        if line.lost_all:
            step = {"stage": line.stage, "step": line.step}
            rows = (row for row in tables.rows("failures") if row.items() >= step.items())
            first = next((f"; the first: {row['message']}" for row in rows), "")
            raise StepLost(_lost(f"{line.stage}/{line.step}", line.entered, line.failed) + first)
    videos = tables.count("videos")
    for part, reasons in partial_evidence.items():
        failed = reasons.get(ENGINE_FAILED, 0)
        if videos and failed == videos:
            rows = (each for row in tables.rows("videos", ["warnings"]) for each in row["warnings"])
            first = next(f"; the first: {row['message']}" for row in rows if row["part"] == part)
            raise StepLost(_lost(f"extract/{part}", videos, {ENGINE_FAILED: failed}) + first)


def _lost(step: str, entered: int, failed: Mapping[str, int]) -> str:
    kinds = ", ".join(f"{count} {kind}" for kind, count in failed.items())
    return f"nothing came out of {step}, which was given {entered}: {kinds}"


def require_sound(staging: str, manifest: Manifest) -> None:
    """Raise UnsoundOutput where what is staged breaks a rule of verification."""
    problems = check_staged(staging, manifest)
    if problems:
        others = f" (and {len(problems) - 1} or more others)" if len(problems) > 1 else ""
        raise UnsoundOutput(f"what was made does not verify: {problems[0]}{others}")
