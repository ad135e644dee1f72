"""The whole run: every stage in order, from an input to a finished output folder."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.runners.runner import PipelineResult

from pipeline.config import Recipe
from pipeline.curate import Curate
from pipeline.emit import COUNTS, QRELS, Counts, Emit
from pipeline.engines import Engines
from pipeline.extract import Extract
from pipeline.human import HumanQuery, PlaceHumanQueries
from pipeline.judge import Judge
from pipeline.mine import Mine
from pipeline.outputs.errors import OutputError, StepLost, UnsoundOutput, with_fix
from pipeline.outputs.lock import hold
from pipeline.outputs.manifest import Manifest, PromptText, RunInfo, has_manifest
from pipeline.outputs.publish import publish, settle
from pipeline.outputs.report.complete import complete
from pipeline.outputs.run_lines import run_files
from pipeline.outputs.staging import clear_staging, is_half_published, list_output, staging_of
from pipeline.outputs.tables import Tables
from pipeline.outputs.verify.verify import check_staged
from pipeline.stage import LedgerBuilder, Step
from pipeline.synthesize import Synthesize
from prompts.template import Template
from schemas.capabilities import Capabilities
from schemas.check import read_json
from schemas.fingerprint import fingerprint
from transforms.curate.split import split_of
from transforms.emit.write_parts import join_parts
from transforms.extract.attempt import ENGINE_FAILED
from transforms.extract.list_input import Listing, entries_json, read_entries
from transforms.group.group_videos import GroupVideos
from transforms.journal.counts import work_of
from transforms.journal.deciding import libraries_of
from transforms.journal.journal import Journal
from transforms.ledger import Line, check_balance, ledger_json, lines_of
from transforms.storage.cache import Cache
from transforms.storage.files import join, read_bytes, write_bytes


@dataclass(frozen=True)
class Job:
    """One run: what to do, on what, and where results and cached frames go; ``servers`` is what was found of them."""

    recipe: Recipe
    engines: Engines
    input: str
    listing: Listing
    output: str
    cache: Cache
    journal: Journal
    workers: int
    prompts: Mapping[str, Template]
    human: tuple[HumanQuery, ...] = ()
    servers: Mapping[str, Capabilities] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """Shards a table."""
        return self.recipe.shards(len(self.listing.entries))


def build(pipeline: beam.Pipeline, job: Job, entries_path: str) -> list[Step]:
    """Put the whole graph onto ``pipeline``; touches no file, network or model.

    Returns the ledger's lines in order.
    """
    ledger = LedgerBuilder()
    found = put_stages(pipeline, job, entries_path, ledger)
    runs = tuple(job.recipe.mine.first_stages)
    _ = found | "Emit" >> Emit(job.recipe.emit, runs, staging_of(job.output), job.shards, job.cache, ledger)
    return ledger.steps


def put_stages(
    pipeline: beam.Pipeline, job: Job, entries_path: str, ledger: LedgerBuilder
) -> dict[str, beam.PCollection]:
    """Put all stages before the last onto ``pipeline``; returns what they find."""
    recipe, engines, journal = job.recipe, job.engines, job.journal
    entries = (
        pipeline | "Input" >> beam.Create([entries_path], reshuffle=False) | "Read input" >> beam.FlatMap(read_entries)
    )
    extracted = entries | "Extract" >> Extract(recipe.extract, engines, job.cache, journal, job.workers, ledger)
    videos = extracted["videos"]
    fraction, seed = recipe.emit.validation_fraction, recipe.seed
    groups = videos | "Group" >> GroupVideos(recipe.group, job.cache, journal)
    splits = groups | "Split" >> beam.MapTuple(lambda video, group: (video, split_of(group.split_key, fraction, seed)))
    near = groups | "Near" >> beam.MapTuple(lambda video, group: (video, group.near))

    visible = videos | "With frames" >> beam.Filter(lambda video: video.frame_pack is not None)
    human = (visible, extracted["kept"]) | "Human queries" >> PlaceHumanQueries(job.human, ledger)
    synthesized = (videos, human, splits) | "Synthesize" >> Synthesize(
        recipe.synthesize, engines, journal, job.prompts["write_queries"], seed, ledger
    )
    mining = (synthesized["queries"], visible, extracted["deferred"], splits, near)
    mined = mining | "Mine" >> Mine(recipe.mine, engines, job.cache, journal, ledger)
    judged = (mined["pairs"], videos) | "Judge" >> Judge(
        recipe.judge, engines, journal, job.prompts["judge"], seed, ledger
    )
    curated = (mined["rankings"], judged, splits) | "Curate" >> Curate(recipe.curate, ledger)
    return {
        "decoded": extracted["decoded"],
        "videos": videos,
        "splits": splits,
        "near": near,
        "written": (synthesized["written"], human) | "All written" >> beam.Flatten(),
        "ranked": mined["ranked"],
        **curated,
    }


def check_output(output: str) -> None:
    """Refuse an output folder that is no place for a training set, or holds anything but an earlier run's.

    Raises:
        OutputError: it is no folder, has characters that file systems read as patterns, or holds other files.
    """
    if any(character in output for character in "*?["):
        raise OutputError(f"--output {output!r}: '*', '?' and '[' are read as patterns; choose another name")
    if os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"--output {output!r} is a file; name a folder")
    present = list_output(output)
    if present and not has_manifest(output) and not is_half_published(output):
        raise OutputError(f"--output {output!r} holds files that are not of hardquery, such as {present[0]!r}")


def execute(
    job: Job, pipeline: beam.Pipeline, runner: str, run: Callable[[beam.Pipeline], PipelineResult]
) -> tuple[Manifest, list[Line], list[str]]:
    """Run a job on an empty pipeline and publish its output; until then an earlier output stays as it is.

    Returns the manifest, the ledger's lines, and what damage was met in the journal.

    Raises:
        OutputError: the output folder is not ours, in use by another run, or cannot be written to.
        CannotJournal: the last results cannot be recorded; nothing is published then.
        LedgerOutOfBalance: some step lost or invented items; nothing is published then.
        StepLost: some step lost all of its items to failures; nothing is published then.
        UnsoundOutput: what was staged breaks a rule of ``verify``; nothing is published then.
    """
    created, start = datetime.now(UTC), time.monotonic()
    check_output(job.output)
    with hold(job.output) as confirm:
        with closing(job.journal):
            settle(job.output)
            clear_staging(job.output)
            entries_path = write_entries(job)
            steps = build(pipeline, job, entries_path)
            work = work_of(run(pipeline))
            damage = job.journal.damage()
        stamps = job.engines.stamps()
        info = partial(
            RunInfo,
            recipe=job.recipe.as_dict(),
            recipe_fingerprint=job.recipe.fingerprint,
            engines=stamps,
            libraries=libraries_of(stamps),
            servers=job.servers,
            prompts={name: PromptText(template.version, template.source) for name, template in job.prompts.items()},
            input=job.input,
            entries=len(job.listing.entries),
            runner=runner,
            created=created.isoformat(timespec="seconds"),
            work=work,
        )
        manifest, lines = finish(job, steps, lambda: info(elapsed_s=round(time.monotonic() - start, 1)))
        require_sound(staging_of(job.output), manifest)
        confirm()
        publish(job.output)
    return manifest, lines, damage


def write_entries(job: Job) -> str:
    """Put the list of the input's videos where every worker can read it; returns its path.

    Raises:
        OutputError: the cache cannot be written to.
    """
    content = entries_json(job.listing.entries)
    path = join(job.cache.root, "inputs", f"{fingerprint(content.decode())}.jsonl")
    try:
        write_bytes(path, content)
    except OSError as error:
        raise OutputError(with_fix(f"the cache (--cache {job.cache.root!r}) cannot be written to: {error}")) from error
    return path


def finish(job: Job, steps: Iterable[Step], info: Callable[[], RunInfo]) -> tuple[Manifest, list[Line]]:
    """From staged shards and counts to a finished output: ledger, TREC files, card, report, and the manifest last."""
    staging = staging_of(job.output)
    counts = read_json(read_bytes(join(staging, COUNTS)), Counts)
    lines = lines_of(counts.tallies, steps)
    warnings: dict[str, dict[str, int]] = defaultdict(dict)
    for part, reason, count in sorted(counts.warnings):
        warnings[part][reason] = count
    write_bytes(join(staging, "ledger.json"), ledger_json(lines, warnings))
    check_balance(lines, len(job.listing.entries))
    refuse_lost(lines, warnings, Tables(staging, counts.files))
    for name in (*run_files(job.recipe.mine.first_stages), QRELS):
        join_parts(staging, name, job.shards)
    FileSystems.delete([join(staging, COUNTS)])  # what is left is the output, and can be looked at as one
    return complete(staging, info(), counts.files), lines


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
