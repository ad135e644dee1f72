"""The plan: what a run would do and cost, found by running the same graph on a journal that only looks."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import apache_beam as beam
from apache_beam.runners.runner import PipelineResult

from pipeline.planning.changes import NotHeld, not_held
from pipeline.planning.forecast import AT_HAND, Counts, Flow, calls_behind, compared_by, test_queries, variants_of
from pipeline.planning.panel import plan_panel
from pipeline.planning.rate import Rate
from pipeline.planning.step import Reason, StepPlan, step_plan
from pipeline.planning.unseen import Unseen, look_into
from pipeline.run import Job, put_stages
from pipeline.stage import LedgerBuilder
from schemas.video import EngineStamp, Video
from transforms.extract.list_input import entries_json
from transforms.journal.budget import PAID_STEPS, Cost
from transforms.journal.counts import UNTOLD, add, work_of
from transforms.journal.journal import Journal
from transforms.journal.record import STEPS, Record
from transforms.ledger import Counted
from transforms.protocols.engine import Waits
from transforms.protocols.teacher import Ladder
from transforms.storage.cache_failed import CacheFailed

# Which steps decide what each one is asked.
_UPSTREAM: Mapping[str, tuple[str, ...]] = {
    "decode": (),
    "asr": ("decode",),
    "ocr": ("decode",),
    "caption": ("decode",),
    "frame_hashes": ("decode",),
    "write": ("decode", "asr", "ocr", "caption"),
    "embed_video": ("decode", "asr", "ocr", "caption"),
    "embed_query": ("decode", "asr", "ocr", "caption", "write", "embed_video"),
    "judge": ("decode", "asr", "ocr", "caption", "frame_hashes", "write", "embed_video", "embed_query"),
    "negatives": ("decode", "asr", "ocr", "caption", "frame_hashes", "write", "embed_video", "embed_query", "judge"),
    "verify": (
        *("decode", "asr", "ocr", "caption", "frame_hashes", "write", "embed_video", "embed_query", "judge"),
        "negatives",
    ),
    "necessity": ("decode", "asr", "ocr", "caption", "frame_hashes", "write", "embed_video", "embed_query", "judge"),
}
_SAMPLE = 1000  # records, to learn from what a call takes
_INPUT = "input"
_GUESSED = (
    "write",
    "embed_video",
    "embed_query",
    "judge",
    "negatives",
    "verify",
    "necessity",
)  # steps whose work hangs on what is written, and not on files alone
_NAMED = 5  # files that cannot be read


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do. ``videos`` are all that the input lists.

    ``media_s`` leaves out videos of ``unknown_length`` (remote ones that were never decoded, or files whose headers do
    not say), and those that are ``unreadable``: not there, no media, or known not to decode; the first of those whose
    headers tell so are ``unreadable_files``, by name. ``untold`` are cached replies of a judge without
    log-probabilities, which a run asks for again where its server reports them. ``at_hand`` are the videos whose
    evidence is there, by which the others are estimated.
    """

    videos: int
    media_s: float
    unknown_length: int
    unreadable: int
    steps: tuple[StepPlan, ...]
    damage: tuple[str, ...]
    untold: int = 0
    unreadable_files: tuple[str, ...] = ()
    at_hand: int = 0


class CannotLook(OSError):
    """The cache cannot be read; one line that names it."""


def make_plan(job: Job, pipeline: beam.Pipeline, run: Callable[[beam.Pipeline], PipelineResult]) -> Plan:
    """Plan a job, whose journal only looks, on an empty pipeline of this process; nothing is computed or paid for.

    Nothing is written but the hashes of local media, and these only into a cache that is there and may be written to.

    Raises:
        CannotLook: the cache cannot be read.
    """
    job = replace(job, journal=replace(job.journal, note=not_held))
    with closing(job.journal), tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        _open(job.journal)
        entries_path = os.path.join(folder, "entries.jsonl")
        Path(entries_path).write_bytes(entries_json(job.listing.entries))
        _look(job, pipeline, entries_path)
        counts = work_of(run(pipeline))
        misses: dict[str, list[NotHeld]] = {step: [] for step in STEPS}
        for miss in job.journal.misses():
            misses[miss.step].append(miss)
        misses["embed_video"] = list(dict.fromkeys(misses["embed_video"]))  # two may ask for the same vectors
        unseen = look_into([miss.subject for miss in (*misses["media"], *misses["decode"])], job.workers)
        steps = _steps(job, counts, misses, unseen)
        if job.engines.panel:
            steps += (plan_panel(job, counts, misses["panel"], next(step for step in steps if step.step == "judge")),)
        lengths = [headers and headers.duration_s for headers in unseen.headers.values()]
        bad = len(unseen.unreadable)
        return Plan(
            videos=len(job.listing.entries),
            media_s=counts.get(_INPUT, {}).get("milliseconds", 0) / 1000 + sum(length or 0.0 for length in lengths),
            unknown_length=len(unseen.remote) + sum(length is None for length in lengths) - bad,
            unreadable=counts.get("extract/decode", {}).get("failed", 0) + bad,
            steps=steps,
            damage=tuple(job.journal.damage()),
            untold=counts.get("judge", {}).get(UNTOLD, 0),
            at_hand=counts.get(AT_HAND, {}).get("out", 0),
            unreadable_files=tuple(sorted(os.path.basename(uri) for uri in unseen.unreadable)[:_NAMED]),
        )


def _open(journal: Journal) -> None:
    try:
        for step in STEPS:
            journal.holds(step)
    except CacheFailed as error:
        raise CannotLook(f"the cache (--cache {journal.root!r}) cannot be read: {error}") from error


def _look(job: Job, pipeline: beam.Pipeline, entries_path: str) -> None:
    """Put all stages but the last onto the pipeline, and count what comes by."""
    ledger = LedgerBuilder()
    found = put_stages(pipeline, job, entries_path, ledger)
    for n, (items, counted) in enumerate(ledger.counted(pipeline).items()):
        _ = items | f"Count {n}" >> beam.Map(_add_one, counted)
    _ = ledger.work(pipeline) | "Work" >> beam.MapTuple(add)
    _ = found["decoded"] | "Length" >> beam.Map(_add_length)


def _add_one(item: object, counted: Sequence[Counted]) -> None:
    """Count an item by Beam's own counters, which come with a run's result: a look writes no ledger."""
    for key, _ in counted:
        stage, step, outcome, _ = key(item) if callable(key) else key
        add(f"{stage}/{step}", outcome, 1)


def _add_length(video: Video) -> None:
    add(_INPUT, "milliseconds", round(1000 * (video.media.duration_s or 0.0)))


def _steps(job: Job, counts: Counts, misses: Mapping[str, list[NotHeld]], unseen: Unseen) -> tuple[StepPlan, ...]:
    embedders = job.engines.embedders
    # Equal files are decoded once, and equal questions asked once: the others find the result.
    distinct = {step: {miss.digest: miss for miss in found} for step, found in misses.items()}
    answered = {step: counts.get(step, {}).get("cached", 0) for step in STEPS}
    ladder, verifier = job.engines.judge.ladder, job.engines.verifier.ladder if job.engines.verifier else Ladder(())
    follow = {
        "judge": calls_behind(ladder, distinct["judge"].values(), job.recipe.judge.no_rationale_below),
        "verify": calls_behind(verifier, distinct["verify"].values(), None),
        "necessity": calls_behind(ladder, distinct["necessity"].values(), None),
    }
    calls = {step: answered[step] + len(misses[step]) + follow.get(step, 0) for step in STEPS}

    # Of files that were not hashed nobody knows whether they are copies, or decoded under another name.
    uris = [miss.subject for step in ("media", "decode") for miss in distinct[step].values()]
    possible = unseen.evidence(uris, variants_of(job.recipe), job.listing.entries)
    seen = unseen.having(uris, "has_video")
    flow = Flow(
        job.recipe,
        counts,
        calls,
        answered,
        _human(job),
        ladder,
        prompts=possible / seen if seen else None,
        words_alone=not embedders and all(stage.engine.stamp().name == "bm25" for stage in job.engines.first_stages),
    )
    waiting = unseen.having(uris, "has_video") + counts.get("extract/evidence", {}).get("deferred", 0)
    more_writing = flow.write_calls(waiting)
    behind: dict[str, float] = {
        "asr": unseen.having(uris, "has_audio"),
        "ocr": unseen.having(uris, "has_video"),
        "caption": unseen.having(uris, "has_video"),
        "frame_hashes": unseen.having(uris, "has_video"),
        "write": more_writing,
    }
    writing = len(distinct["write"]) + more_writing
    of_text = sum(each.reads == "text" for each in embedders)
    behind["embed_video"] = flow.embed_video_calls(waiting, of_text, len(embedders) - of_text)
    queries = len(embedders) * flow.searched(writing) + test_queries(job.recipe, job.test_files)
    behind["embed_query"] = queries - (answered["embed_query"] - _twice(job, counts)) - len(distinct["embed_query"])
    behind["judge"] = flow.judge_calls(waiting, writing) - answered["judge"] - len(distinct["judge"]) - follow["judge"]

    behind["negatives"] = flow.groups(writing) - calls["negatives"]
    behind["verify"] = flow.verify_calls(flow.groups(writing), verifier) - calls["verify"]
    behind["necessity"] = flow.necessity_calls(flow.groups(writing)) - calls["necessity"]

    costs, stamps = job.recipe.costs.by_step(), _stamps(job)
    free = () if any(isinstance(each, Waits) for each in embedders) else ("embed_video", "embed_query")
    # Queries that could not be searched do not come to the next embedder, nor to the judge; nor is there a group
    # before the panel has said its word.
    unsearched, unheard = counts.get("mine/retrieve", {}).get("deferred", 0), len(misses["panel"])
    after_search = ("embed_query", "judge") if len(embedders) > 1 else ("judge",)
    waits = dict.fromkeys(after_search if unsearched else (), "search")
    waits |= dict.fromkeys(("negatives", "verify", "necessity") if unheard else (), "panel")
    plans: dict[str, StepPlan] = {}
    for step, upstream in _UPSTREAM.items():
        needed = job.recipe.group.max_bits is not None if step == "frame_hashes" else step in stamps
        if not needed:
            continue
        reasons = Counter(miss.why for miss in distinct[step].values())
        due = [name for name in upstream if name in plans and plans[name].to_run]
        if not due and step in waits:
            due = [waits[step]]
        if step == "decode":
            reasons.update(miss.why for miss in distinct["media"].values())
        elif due:
            reasons[f"depends on {', '.join(due)}"] += max(0, round(behind[step]))
        if after := follow.get(step, 0):
            reasons["depends on the replies before"] += after
        bounds = None
        if due and step in _GUESSED:
            known, (least, most) = len(distinct[step]), flow.spread(max(0.0, behind[step]))
            bounds = (known + least, known + most)
            if step == "write" and not flow.at_hand:
                bounds = (math.ceil(possible / 2), possible)
        exact = not (due or (step == "decode" and distinct["media"]) or after)
        plans[step] = step_plan(
            step,
            answered[step] + len(misses[step]) - len(distinct[step]),
            exact,
            tuple(Reason(text, n) for text, n in reasons.most_common() if n),
            Rate.of(_records(job, step), stamps.get(step), costs.get(step, Cost())),
            costs.get(step, Cost()),
            paid=step in PAID_STEPS and step not in free,
            bounds=bounds,
        )
    return tuple(plans.values())


def _twice(job: Job, counts: Counts) -> int:
    """How many vectors of queries were there to be compared with those of test queries, and again to search."""
    searched = counts.get("mine/select", {}).get("out", 0)
    return compared_by(job.recipe) * max(0, searched - counts.get("synthesize/decontaminate", {}).get("deferred", 0))


def _stamps(job: Job) -> dict[str, EngineStamp]:
    """Who works at each step that an engine does; of several embedders the first stands for all."""
    engines = job.engines
    stamps = engines.stamps()
    roles = {"write": "writer", "verify": "verifier"}
    stamps |= {step: stamps[role] for step, role in roles.items() if role in stamps}
    if embedders := engines.embedders:
        stamps |= {"embed_video": embedders[0].document_stamp(), "embed_query": embedders[0].query_stamp()}
    if job.recipe.judge.necessity is not None:
        stamps["necessity"] = stamps["judge"]
    return stamps


def _records(job: Job, step: str) -> list[Record]:
    """Some to learn from: of a judge that is not shown all, before there are any, those of one that is."""
    return job.journal.some(step, _SAMPLE) or (job.journal.some("judge", _SAMPLE) if step == "necessity" else [])


def _human(job: Job) -> int:
    """Queries by people that a video of the input may answer; of an input without ids nobody knows."""
    ids = {entry.video_id for entry in job.listing.entries}
    return sum(1 for query in job.human if None in ids or any(video_id in ids for video_id, _ in query.grades))
