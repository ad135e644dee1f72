"""The whole run: every stage in order, from an input to a finished output folder."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import apache_beam as beam
import msgspec
from apache_beam.io.filesystems import FileSystems

from pipeline.config import Engines, Recipe
from pipeline.curate import Curate
from pipeline.emit import COUNTS, QRELS, RUN, Counts, Emit
from pipeline.extract import Extract
from pipeline.judge import Judge
from pipeline.mine import Mine
from pipeline.outputs.manifest import Manifest, PromptText, RunInfo
from pipeline.outputs.publish import publish, retract
from pipeline.stage import Account, Step
from pipeline.synthesize import Synthesize
from prompts import load_template
from schemas.fingerprint import fingerprint
from schemas.query import Query
from transforms.cache import Cache
from transforms.files import join, list_files, read_bytes, write_bytes
from transforms.ledger import Line, check_balance, ledger_json, lines_of
from transforms.list_input import Listing, entries_json, read_entries
from transforms.split import split_of
from transforms.trec import read_qrels, read_queries
from transforms.write_parts import join_parts

PROMPTS = ("caption", "write_queries", "judge")


class OutputError(ValueError):
    """An output folder that must not be written to; one line that says why."""


@dataclass(frozen=True)
class HumanQueries:
    """Queries written by people, each with one positive; ``relevant`` holds all its relevant videos."""

    queries: tuple[Query, ...] = ()
    relevant: Mapping[str, frozenset[str]] = field(default_factory=dict)


def read_human_queries(queries_path: str, qrels_path: str) -> HumanQueries:
    """Queries (``id<TAB>text``) with TREC qrels; a query's positive is its most relevant video, ties by id.

    Raises:
        TrecError: a line that is not of its format.
        ValueError: a query without a relevant video.
    """
    texts, qrels = read_queries(queries_path), read_qrels(qrels_path)
    queries, relevant = [], {}
    for query_id, text in texts.items():
        grades = {video_id: grade for video_id, grade in qrels.get(query_id, {}).items() if grade > 0}
        if not grades:
            raise ValueError(f"{qrels_path}: query {query_id!r} of {queries_path} has no relevant video")
        positive = min(grades, key=lambda video_id: (-grades[video_id], video_id))
        queries.append(Query(query_id, positive, text, "human"))
        relevant[query_id] = frozenset(grades)
    return HumanQueries(tuple(queries), relevant)


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
    human: HumanQueries = field(default_factory=HumanQueries)

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
    videos = entries | "Extract" >> Extract(recipe.extract, engines, job.cache, job.workers, account)
    fraction, seed = recipe.emit.validation_fraction, recipe.seed
    splits = videos | "Split" >> beam.Map(lambda video: (video.video_id, split_of(video.split_key, fraction, seed)))

    synthesized = videos | "Synthesize" >> Synthesize(recipe.synthesize, engines, seed, account)
    human = pipeline | "Human queries" >> beam.Create(job.human.queries, reshuffle=False)
    queries = (synthesized["queries"], human) | "All queries" >> beam.Flatten()

    mined = (queries, videos) | "Mine" >> Mine(recipe.mine, engines, job.human.relevant, account)
    judgements = (mined["rankings"], videos, splits) | "Judge" >> Judge(
        recipe.judge, engines, recipe.mine.candidates, job.human.relevant, seed, account
    )
    curated = (mined["rankings"], judgements, splits) | "Curate" >> Curate(recipe.curate, account)
    found = {
        "videos": videos,
        "splits": splits,
        "written": (synthesized["written"], human) | "All written" >> beam.Flatten(),
        "ranked": mined["ranked"],
        **curated,
    }
    _ = found | "Emit" >> Emit(recipe.emit, job.output, job.shards, job.cache, job.human.relevant, account)
    return account.steps


def check_output(output: str) -> None:
    """Refuse an output folder that holds anything but an earlier run.

    Raises:
        OutputError: it holds other files.
    """
    present = list_files(output)
    ours = {"manifest.json", "ledger.json", COUNTS}
    if present and not ours & set(present) and not any(path.endswith(".parquet") for path in present):
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
    check_balance(lines)
    for name in (RUN, QRELS):
        join_parts(job.output, name, job.shards)
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
