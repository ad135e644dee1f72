"""The whole run: every stage in order, from an input to a finished output folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult

from pipeline.config import Recipe
from pipeline.curate import Curate, CurateByVideo
from pipeline.emit import BY_VIDEO, NECESSITY, Emit
from pipeline.engines import Engines
from pipeline.extract import Extract
from pipeline.finish import Submitted, publish_finished, read_submitted
from pipeline.human import HumanQuery, PlaceHumanQueries
from pipeline.judge import FindNecessities, FirstLook, Judge
from pipeline.mine import FrameVectors, Mine
from pipeline.outputs.errors import OutputError, with_fix
from pipeline.outputs.lock import hold
from pipeline.outputs.manifest import Manifest, PromptText, RunInfo, has_manifest
from pipeline.outputs.marks import Labels
from pipeline.outputs.publish import settle
from pipeline.outputs.staging import clear_staging, is_half_published, list_output, staging_of
from pipeline.stage import LedgerBuilder, Step
from pipeline.synthesize import Synthesize
from prompts.template import Template
from schemas.capabilities import Capabilities
from schemas.fingerprint import fingerprint
from transforms.curate.split import split_of
from transforms.decontaminate.test_sets import TestFile
from transforms.emit.shards import ShardCounts
from transforms.extract.identify import state_of
from transforms.extract.list_input import Listing, entries_json, read_entries
from transforms.group.group_videos import GroupVideos
from transforms.journal.deciding import code_version, libraries_of
from transforms.journal.journal import Journal
from transforms.journal.record import FORMAT
from transforms.judge.judge_pairs import JudgeOptions
from transforms.ledger import Line
from transforms.storage.address import is_remote
from transforms.storage.cache import Cache
from transforms.storage.files import join, write_bytes
from transforms.storage.shared_files import OUTPUTS, share_files
from transforms.workers.recorded import WORK


@dataclass(frozen=True)
class Job:
    """One run: what to do, on what, and where results and cached frames go.

    ``servers`` is what was found of them, ``labels`` what people say is wrong with what an earlier run made,
    ``test_files`` what was looked at of the recipe's test sets.
    """

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
    labels: Labels | None = None
    test_files: tuple[TestFile, ...] = ()

    @property
    def shards(self) -> ShardCounts:
        """Shards a table."""
        return self.recipe.shards(len(self.listing.entries), len(self.human))


@dataclass(frozen=True)
class Part:
    """A part of a corpus, gone through by itself: ``mine`` takes the place of ``Mine``, which would need all videos.

    ``elsewhere`` are the hashes of the files of all others: what has the same bytes is a copy of one of them.
    """

    mine: beam.PTransform
    elsewhere: frozenset[str] = frozenset()


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
    pipeline: beam.Pipeline, job: Job, entries_path: str, ledger: LedgerBuilder, part: Part | None = None
) -> dict[str, beam.PCollection]:
    """Put all stages before the last onto ``pipeline``; returns what they find.

    Of a ``part`` of a corpus, mining says besides what the judge is shown of "videos" that are not in it.
    """
    recipe, engines, journal = job.recipe, job.engines, job.journal
    entries = (
        pipeline | "Input" >> beam.Create([entries_path], reshuffle=False) | "Read input" >> beam.FlatMap(read_entries)
    )
    extracted = entries | "Extract" >> Extract(
        recipe.extract,
        engines,
        job.cache,
        journal,
        job.workers,
        ledger,
        recipe.decontaminate,
        part.elsewhere if part else frozenset(),
    )
    videos = extracted["videos"]
    fraction, seed = recipe.emit.validation_fraction, recipe.seed
    grouped = videos | "Group" >> _groups(job)
    ledger.works.append(grouped[WORK])
    groups = grouped["groups"]
    splits = groups | "Split" >> beam.MapTuple(lambda video, group: (video, split_of(group.split_key, fraction, seed)))
    near = groups | "Near" >> beam.MapTuple(lambda video, group: (video, group.near))

    visible = videos | "With frames" >> beam.Filter(lambda video: video.frame_pack is not None)
    human = (visible, extracted["kept"]) | "Human queries" >> PlaceHumanQueries(job.human, ledger)
    synthesized = (videos, human, splits) | "Synthesize" >> Synthesize(
        recipe.synthesize, engines, journal, job.prompts, seed, ledger, recipe.decontaminate
    )
    mining = (synthesized["queries"], visible, extracted["deferred"], splits, near)
    mined = mining | "Mine" >> (part.mine if part else Mine(recipe.mine, engines, job.cache, journal, ledger))
    judging = (videos, mined["videos"]) | "With theirs" >> beam.Flatten() if part else videos
    share = recipe.share_judged_first(len(job.listing.entries), len(job.human))
    first = FirstLook(recipe.curate, share) if share is not None else None
    judged = (mined["pairs"], judging) | "Judge" >> Judge(
        recipe.judge, engines, journal, job.prompts["judge"], seed, ledger, first
    )
    marks = job.labels.by_query if job.labels else {}
    curated = (mined["rankings"], judged, splits) | "Curate" >> Curate(recipe.curate, ledger, marks, recipe.judge.heeds)
    more = {}
    if recipe.judge.necessity is not None:
        more[NECESSITY] = (curated["examples"], judging) | "Necessity" >> FindNecessities(
            recipe.judge, engines, journal, job.prompts["judge"], seed, ledger
        )
    if (negatives := recipe.synthesize.negative_queries) is not None:
        asked = JudgeOptions(negatives.modalities, seed, recipe.judge.evidence)
        wordings = {name: replace(asked, template=job.prompts[name]) for name in ("judge", "judge_reworded")}
        more[BY_VIDEO] = (curated["examples"], videos) | "By video" >> CurateByVideo(
            negatives,
            recipe.synthesize.filters,
            engines,
            journal,
            job.prompts["negative_queries"],
            wordings,
            seed,
            ledger,
            marks,
        )
    return {
        "decoded": extracted["decoded"],
        "videos": videos,
        "splits": splits,
        "near": near,
        "written": (synthesized["written"], human) | "All written" >> beam.Flatten(),
        "ranked": mined["ranked"],
        **({"margin": mined["margin"]} if "margin" in mined else {}),
        **curated,
        **more,
    }


def _groups(job: Job) -> GroupVideos:
    rules = job.recipe.group
    if rules.vectors is None:
        return GroupVideos(rules, job.cache, job.journal)
    engine = job.engines.seeing(rules.vectors.run)
    return GroupVideos(rules, job.cache, job.journal, FrameVectors(engine, job.cache, job.journal), engine)


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
        foreign = [path for path in present if not path.startswith(".hardquery/")]
        what = f"holds other files, such as {foreign[0]!r}" if foreign else "holds a cache and no output"
        raise OutputError(f"--output {output!r} {what}; name a folder of its own, such as {join(output, 'out')}")


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
    check_output(job.output)
    with hold(job.output) as confirm:
        if (waits_for := read_submitted(job.output)) is not None:
            where = waits_for.info.runner
            raise OutputError(f"--output {job.output!r} waits for a job on {where}: hardquery finish {job.output}")
        with closing(job.journal):
            settle(job.output)
            clear_staging(job.output)
            submitted = put_graph(job, pipeline, runner)
            run(pipeline)
            damage = job.journal.damage()
        manifest, lines = publish_finished(job.output, submitted, confirm)
        _share_shards(job, manifest)
    return manifest, lines, damage


def _share_shards(job: Job, manifest: Manifest) -> None:
    """Keep the shards of videos once that another output of the same cache has too: most of their bytes are frames."""
    if is_remote(job.output) or is_remote(job.cache.root):
        return
    hashes = {file.path: file.sha256 for file in manifest.files if file.path.startswith("videos/")}
    with suppress(OSError):  # the output is published, and as good without
        share_files(job.output, hashes, join(job.cache.root, OUTPUTS))


def put_graph(job: Job, pipeline: beam.Pipeline, runner: str) -> Submitted:
    """Put the whole graph of a job onto an empty pipeline; returns what it takes to finish its output, here or later.

    Raises:
        OutputError: the cache cannot be written to.
    """
    stamps = job.engines.stamps()
    steps = build(pipeline, job, write_entries(job))
    info = RunInfo(
        recipe=job.recipe.as_dict(),
        recipe_fingerprint=job.recipe.fingerprint,
        engines=stamps,
        libraries=libraries_of(stamps),
        servers=job.servers,
        prompts={name: PromptText(template.version, template.source) for name, template in job.prompts.items()},
        input=job.input,
        entries=len(job.listing.entries),
        all_entries=job.listing.all_entries,
        labels=job.labels.used if job.labels else None,
        test_files=job.test_files,
        given=given_of(job),
        runner=runner,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        elapsed_s=0.0,
    )
    return Submitted(info=info, steps=tuple(steps), parts=job.shards.by_pair)


def given_of(job: Job) -> str:
    """The fingerprint of all that decides an output, also this code; of each video its file's size, times and inode.

    It is "" where that would take long to ask, of an object store, or cannot be had.
    """
    uris = [entry.uri for entry in job.listing.entries]
    if any(map(is_remote, uris)):
        return ""
    try:
        states = [state_of(uri) for uri in uris]
    except OSError:
        return ""
    stamps = job.engines.stamps()
    prompts = {name: template.version for name, template in job.prompts.items()}
    marks = job.labels.by_query if job.labels else {}
    decided = (job.recipe.fingerprint, stamps, libraries_of(stamps), prompts, code_version(), FORMAT)
    return fingerprint([*decided, entries_json(job.listing.entries).decode(), states, job.human, marks, job.test_files])


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
