"""The steps of a plan: what a look found of each, and what waits behind work that is not done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.planning.forecast import Flow, calls_of_pair, compared_by, test_queries
from pipeline.planning.panel import plan_panel
from pipeline.planning.rate import Rate
from pipeline.planning.seen import Seen
from pipeline.planning.step import StepPlan, reasons_of, step_plan
from pipeline.run import Job
from schemas.video import EngineStamp
from transforms.journal.budget import PAID_STEPS, Cost
from transforms.journal.record import Record
from transforms.protocols.engine import Waits
from transforms.protocols.teacher import Ladder

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
_GUESSED = (
    "write",
    "embed_video",
    "embed_query",
    "judge",
    "negatives",
    "verify",
    "necessity",
)  # steps whose work hangs on what is written, and not on files alone
# Of the groups that are made of pairs, those steps that ask about them.
_OF_GROUPS = ("negatives", "verify", "necessity")


@dataclass(frozen=True)
class Unsearched:
    """What only searching the whole corpus could tell, where just a sample of its videos was looked at.

    ``why`` candidates may be others than those of the last run, "" where they are not. ``more`` are candidates of its
    queries that it did not have, ``videos`` those at hand that it did not search. ``records`` are how many the journal
    holds of a step.
    """

    why: str
    more: float
    videos: float
    records: Mapping[str, int]

    @property
    def search(self) -> str:
        """What pairs depend on, with the reason."""
        return f"search ({self.why})" if self.why else "search"

    def of_searched(self, seen: Seen) -> bool:
        """Whether there are queries at hand of which it is not told what would be found for them."""
        return bool(self.more or self.videos or seen.count("mine/retrieve", "deferred"))

    def held_at_most(self, seen: Seen, step: str) -> float:
        """How many results of a step may be held beside those that were found: by runs of other candidates."""
        return max(0.0, self.records.get(step, 0) - seen.held(step))


def plan_steps(job: Job, seen: Seen, unsearched: Unsearched | None = None) -> tuple[StepPlan, ...]:
    """The plan of every step that the job has. With ``unsearched``, ``seen`` stands for more than was looked at."""
    more = calls_of_pair(job.engines.judge.ladder) * unsearched.more if unsearched else 0.0
    flow = _flow(job, seen, more)
    waiting = seen.files["has_video"] + seen.count("extract/evidence", "deferred")
    ranked = flow.at_hand - (unsearched.videos if unsearched else 0)
    behind = _behind(job, seen, flow, waiting)
    costs, stamps, waits = job.recipe.costs.by_step(), _stamps(job), _waits(job, seen, unsearched)
    free = () if any(isinstance(each, Waits) for each in job.engines.embedders) else ("embed_video", "embed_query")
    plans: dict[str, StepPlan] = {}
    for step, upstream in _UPSTREAM.items():
        needed = job.recipe.group.max_bits is not None if step == "frame_hashes" else step in stamps
        if not needed:
            continue
        due = [name for name in upstream if name in plans and plans[name].to_run]
        if not due and step in waits:
            due = [waits[step]]
        known, after, guess = seen.due(step), seen.follow.get(step, 0), 0.0
        reasons: defaultdict[str, float] = defaultdict(float, seen.reasons[step])
        if step == "decode":
            for why, number in seen.reasons["media"].items():
                reasons[why] += number
            known += seen.due("media")
        elif due:
            guess = max(0.0, behind[step])
            reasons[f"depends on {', '.join(due)}"] += guess
        if step == "judge" and (replaced := _negatives_held(seen) * flow.replaced(ranked, flow.at_hand + waiting)):
            reasons["new videos take the place of candidates"] += replaced
            guess += replaced
        reasons["depends on the replies before"] += after
        least: float
        most: float
        least, most = flow.spread(guess) if step in _GUESSED and (due or guess) else (guess, guess)
        if unsearched and unsearched.of_searched(seen) and step in ("judge", *_OF_GROUPS):
            # Of what was written and not searched, other runs of this cache may have asked all that they could.
            least = max(0.0, least - unsearched.held_at_most(seen, step))
        if step == "write" and due and not flow.at_hand:
            least, most = seen.files["prompts"] / 2, seen.files["prompts"]
        off = seen.off.get(step, 0.0) + (0.0 if step in _GUESSED else guess * _off(seen))
        bounds = (known + after + least - off, known + after + most + off)
        plans[step] = step_plan(
            step,
            seen.held(step) + seen.missed[step] - seen.due(step),
            not (due or (step == "decode" and seen.due("media")) or after or unsearched),
            reasons_of(reasons),
            Rate.of(_records(job, step), stamps.get(step), costs.get(step, Cost())),
            costs.get(step, Cost()),
            paid=step in PAID_STEPS and step not in free,
            bounds=bounds,
        )
    panel = (plan_panel(job, seen, plans["judge"]),) if job.engines.panel else ()
    return (*plans.values(), *panel)


def _flow(job: Job, seen: Seen, more: float) -> Flow:
    """What was seen, as estimates take it; ``more`` are calls of the judge about what is known to come besides."""
    calls = {step: seen.calls(step) for step in ("write", "embed_video", "judge", *_OF_GROUPS)}
    has_video, embedders = seen.files["has_video"], job.engines.embedders
    return Flow(
        job.recipe,
        seen.counts,
        calls | {"judge": calls["judge"] + more},
        {step: seen.held(step) for step in calls},
        _human(job),
        job.engines.judge.ladder,
        prompts=seen.files["prompts"] / has_video if has_video else None,
        words_alone=not embedders and all(stage.engine.stamp().name == "bm25" for stage in job.engines.first_stages),
    )


def _behind(job: Job, seen: Seen, flow: Flow, waiting: float) -> dict[str, float]:
    """How many results of each step, besides those that were looked up, wait behind work that is not done.

    ``waiting`` are videos that lack evidence yet.
    """
    embedders, has_video = job.engines.embedders, seen.files["has_video"]
    verifier = job.engines.verifier.ladder if job.engines.verifier else Ladder(())
    writing = seen.due("write") + flow.write_calls(waiting)
    of_text = sum(each.reads == "text" for each in embedders)
    queries = len(embedders) * flow.searched(writing) + test_queries(job.recipe, job.test_files)
    judged = seen.held("judge") + seen.due("judge") + seen.follow["judge"]
    groups = flow.groups(writing)
    return {
        "asr": seen.files["has_audio"],
        "ocr": has_video,
        "caption": has_video,
        "frame_hashes": has_video,
        "write": flow.write_calls(waiting),
        "embed_video": flow.embed_video_calls(waiting, of_text, len(embedders) - of_text),
        "embed_query": queries - (seen.held("embed_query") - _twice(job, seen)) - seen.due("embed_query"),
        "judge": flow.judge_calls(waiting, writing) - judged,
        "negatives": groups - seen.calls("negatives"),
        "verify": flow.verify_calls(groups, verifier) - seen.calls("verify"),
        "necessity": flow.necessity_calls(groups) - seen.calls("necessity"),
    }


def _waits(job: Job, seen: Seen, unsearched: Unsearched | None) -> dict[str, str]:
    """Steps that wait for what is no step of the journal, and for what.

    Queries that could not be searched do not come to the next embedder, nor to the judge; nor is there a group before
    the panel has said its word.
    """
    waits: dict[str, str] = {}
    if unsearched and unsearched.of_searched(seen):
        waits["judge"] = unsearched.search
    elif seen.count("mine/retrieve", "deferred"):
        waits |= dict.fromkeys(("embed_query", "judge") if len(job.engines.embedders) > 1 else ("judge",), "search")
    return waits | dict.fromkeys(_OF_GROUPS if seen.missed["panel"] else (), "panel")


def _off(seen: Seen) -> float:
    """By which share the number of files that are not decoded may be off."""
    return seen.off.get("decode", 0.0) / max(1.0, seen.due("media") + seen.due("decode"))


def _negatives_held(seen: Seen) -> float:
    """Results of the judge that are held of pairs which are no query's own video."""
    pairs, own = seen.count("judge/judge", "in"), seen.count("mine/filter", "out")
    return seen.held("judge") * max(0.0, 1.0 - own / pairs) if pairs else 0.0


def _twice(job: Job, seen: Seen) -> float:
    """How many vectors of queries were there to be compared with those of test queries, and again to search."""
    searched = seen.count("mine/select", "out")
    return compared_by(job.recipe) * max(0, searched - seen.count("synthesize/decontaminate", "deferred"))


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
