"""The whole run: every stage in order, from an input to a finished output folder."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import apache_beam as beam
import msgspec
from apache_beam.io.filesystems import FileSystems

from pipeline.config import Engines, Recipe
from pipeline.curate import Curate
from pipeline.emit import COUNTS, QRELS, RUN, Counts, Emit
from pipeline.extract import Extract
from pipeline.human import HumanQuery, PlaceHumanQueries
from pipeline.judge import Judge
from pipeline.mine import Mine
from pipeline.outputs.manifest import MARKER, Manifest, PromptText, RunInfo, is_output
from pipeline.outputs.publish import publish, retract
from pipeline.stage import Account, Step
from pipeline.synthesize import Synthesize
from prompts import load_template
from schemas.fingerprint import fingerprint
from transforms.cache import Cache
from transforms.files import join, list_files, read_bytes, write_bytes
from transforms.ledger import Line, check_balance, ledger_json, lines_of
from transforms.list_input import Listing, entries_json, read_entries
from transforms.split import split_of
from transforms.write_parts import PARTS, join_parts

PROMPTS = ("caption", "write_queries", "judge")


class OutputError(ValueError):
    """An output folder that must not be written to; one line that says why."""


@dataclass(frozen=True)
class Job:
    """One run: what to do, on what, and where results and cached frames go."""

    recipe: Recipe
    engines: Engines
    input: str
    listing: Listing
    output: str
    cache: Cache
    workers: int
    human: tuple[HumanQuery, ...] = ()

    @property
    def shards(self) -> int:
        """Shards a table."""
        return self.recipe.shards(len(self.listing.entries))


def build(pipeline: beam.Pipeline, job: Job, entries_path: str) -> list[Step]:
    """Put the whole graph onto ``pipeline``; touches no file, network or model.

    Returns the ledger's lines in order.
    """
    recipe, engines, account = job.recipe, job.engines, Account()
    entries = (
        pipeline | "Input" >> beam.Create([entries_path], reshuffle=False) | "Read input" >> beam.FlatMap(read_entries)
    )
    extracted = entries | "Extract" >> Extract(recipe.extract, engines, job.cache, job.workers, account)
    videos = extracted["videos"]
    fraction, seed = recipe.emit.validation_fraction, recipe.seed
    splits = videos | "Split" >> beam.Map(lambda video: (video.video_id, split_of(video.split_key, fraction, seed)))

    visible = videos | "With frames" >> beam.Filter(lambda video: video.frame_pack is not None)
    human = (visible, extracted["kept"]) | "Human queries" >> PlaceHumanQueries(job.human)
    synthesized = (videos, human) | "Synthesize" >> Synthesize(recipe.synthesize, engines, seed, account)
    mined = (synthesized["queries"], visible) | "Mine" >> Mine(recipe.mine, engines, account)
    judgements = (mined["rankings"], videos, splits) | "Judge" >> Judge(
        recipe.judge, engines, recipe.mine.candidates, seed, account
    )
    curated = (mined["rankings"], judgements, splits) | "Curate" >> Curate(recipe.curate, account)
    found = {
        "videos": videos,
        "splits": splits,
        "written": (synthesized["written"], human) | "All written" >> beam.Flatten(),
        "ranked": mined["ranked"],
        **curated,
    }
    _ = found | "Emit" >> Emit(recipe.emit, job.output, job.shards, job.cache, account)
    return account.steps


def check_output(output: str) -> None:
    """Refuse an output folder that is no place for a training set, or holds anything but an earlier run's.

    Raises:
        OutputError: it is no folder, has characters that file systems read as patterns, or holds other files.
    """
    if any(character in output for character in "*?["):
        raise OutputError(f"--output {output!r}: '*', '?' and '[' are read as patterns; choose another name")
    if os.path.exists(output) and not os.path.isdir(output):
        raise OutputError(f"--output {output!r} is a file; name a folder")
    present = list_files(output)
    if present and not is_output(output):
        raise OutputError(f"--output {output!r} holds files that are not of hardquery, such as {present[0]!r}")


def execute(
    job: Job, pipeline: beam.Pipeline, runner: str, run: Callable[[beam.Pipeline], None]
) -> tuple[Manifest, list[Line]]:
    """Run a job on an empty pipeline and finish its output folder.

    Raises:
        LedgerOutOfBalance: some step lost or invented items; the output then has no manifest.
    """
    created, start = datetime.now(UTC), time.monotonic()
    check_output(job.output)
    write_bytes(join(job.output, MARKER), b"")  # from now on the folder is ours, finished or not
    retract(job.output)
    content = entries_json(job.listing.entries)
    entries_path = join(job.cache.root, "inputs", f"{fingerprint(content.decode())}.jsonl")
    write_bytes(entries_path, content)
    steps = build(pipeline, job, entries_path)
    run(pipeline)
    return finish(job, steps, runner, created.isoformat(timespec="seconds"), lambda: time.monotonic() - start)


def finish(
    job: Job, steps: Iterable[Step], runner: str, created: str, elapsed_s: Callable[[], float]
) -> tuple[Manifest, list[Line]]:
    """From shards and counts to a finished output: ledger, TREC files, card, report, and the manifest last."""
    counts = msgspec.json.decode(read_bytes(join(job.output, COUNTS)), type=Counts)
    lines = lines_of(counts.tallies, steps)
    warnings: dict[str, dict[str, int]] = defaultdict(dict)
    for part, reason, count in sorted(counts.warnings):
        warnings[part][reason] = count
    write_bytes(join(job.output, "ledger.json"), ledger_json(lines, warnings))
    check_balance(lines, len(job.listing.entries))
    for name in (RUN, QRELS):
        join_parts(job.output, name, job.shards)
    FileSystems.delete([join(job.output, PARTS)])
    templates = {name: load_template(name) for name in PROMPTS}
    info = RunInfo(
        recipe=job.recipe.as_dict(),
        recipe_fingerprint=job.recipe.fingerprint,
        engines=job.engines.stamps(),
        prompts={name: PromptText(template.version, template.source) for name, template in templates.items()},
        input=job.input,
        entries=len(job.listing.entries),
        runner=runner,
        created=created,
        elapsed_s=round(elapsed_s(), 1),
    )
    FileSystems.delete([join(job.output, COUNTS)])
    return publish(job.output, info, counts.files), lines
