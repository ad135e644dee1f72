"""Judge: the teacher says of every query's positive and candidates whether the video answers the query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

import apache_beam as beam

from pipeline.config import JudgeConfig
from pipeline.engines import Engines
from pipeline.stage import LedgerBuilder
from prompts.template import Template
from schemas.query import Candidate, Judgement, Place, QueryText
from schemas.video import Video
from transforms.curate.outlook import Outlook, ThresholdsReachNothing, is_judged_first, outlook_of, without_words
from transforms.curate.thresholds import CurateConfig
from transforms.join import JoinVideos
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, JudgePairs, Pair
from transforms.mine.choose_pairs import Assignment
from transforms.progress import Advance, announce
from transforms.workers.place import place
from transforms.workers.recorded import WORK


@dataclass(frozen=True, slots=True)
class FirstLook:
    """That a ``share`` of all queries are judged before the others, to see what these rules will make of them all."""

    rules: CurateConfig
    share: float


@dataclass
class Judge(beam.PTransform):
    """(Assignment, Video) -> {"judgements": Judgement, "losses": Loss of a pair}.

    Where there is a ``first`` look, and by it no query can become a group, no pair of the other queries is judged: the
    run ends in ``ThresholdsReachNothing``. A journal that only looks goes on.
    """

    config: JudgeConfig
    engines: Engines
    journal: Journal
    prompt: Template
    seed: int
    ledger: LedgerBuilder
    first: FirstLook | None = None

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> dict[str, Any]:
        pairs, videos = inputs
        assigned = pairs | "Due" >> Advance("judge", "in")
        if self.first is None:
            judgements, losses = self._judged(assigned, videos)
        else:
            judgements, losses = self._judged_in_turn(assigned, videos, self.first)
        self.ledger.step("judge", "judge", assigned, judgements, losses)
        return {"judgements": judgements | "Done" >> Advance("judge", "done"), "losses": losses}

    def _judged_in_turn(
        self, assigned: beam.PCollection, videos: beam.PCollection, look: FirstLook
    ) -> tuple[beam.PCollection, beam.PCollection]:
        """See ``_judged``; some queries first, and the others only once it was seen what becomes of those."""
        rest, first = assigned | "Part" >> beam.Partition(_part, 2, look.share, self.seed)
        needed = first | "Their videos" >> beam.Map(itemgetter(0)) | "Needed" >> beam.combiners.ToSet()
        theirs = videos | "Of first" >> beam.Filter(_is_needed, beam.pvalue.AsSingleton(needed))
        before, lost_before = self._judged(first, theirs, " first")
        outlook = (
            before
            | "Without words" >> beam.Map(without_words)
            | "All first" >> beam.combiners.ToList()
            | "Look" >> beam.Map(_look, look.rules, may_stop=not self.journal.look_only)
        )
        judgements, losses = self._judged(rest, videos, outlook=beam.pvalue.AsSingleton(outlook))
        return (before, judgements) | "Judgements" >> beam.Flatten(), (lost_before, losses) | "Losses" >> beam.Flatten()

    def _judged(
        self,
        assigned: beam.PCollection,
        videos: beam.PCollection,
        which: str = "",
        outlook: beam.pvalue.AsSingleton | None = None,
    ) -> tuple[beam.PCollection, beam.PCollection]:
        """The judgements and the losses of pairs, whose judging begins when there is an ``outlook``."""
        # Joined by video, so that all questions about a video come one after the other and share a prompt prefix.
        joined = (assigned, videos) | f"With evidence{which}" >> JoinVideos(order=itemgetter(1), key=itemgetter(0))
        ready = joined.joined if outlook is None else joined.joined | "Go on" >> beam.Map(_go_on, outlook)
        due = ready | f"Pairs{which}" >> beam.MapTuple(_pair)
        config = self.config
        options = JudgeOptions(
            config.modalities, self.seed, config.evidence, self.prompt, no_rationale_below=config.no_rationale_below
        )
        judge = JudgePairs(self.engines.judge, self.journal, options)
        judged = place(due, f"Judge{which}", judge, self.engines.resources.get("judge"))
        self.ledger.works.append(judged[WORK])
        return judged.judgements, judged.losses


def _part(assignment: Assignment, _: int, share: float, seed: int) -> int:
    return int(is_judged_first(assignment[1], share, seed))


def _is_needed(video: Video, needed: set[str]) -> bool:
    return video.video_id in needed


def _look(judgements: Sequence[Judgement], rules: CurateConfig, may_stop: bool) -> Outlook:
    outlook = outlook_of(judgements, rules)
    if outlook.said:
        announce(outlook.said)
    return outlook if may_stop else replace(outlook, stop="")


def _go_on(item: tuple[Assignment, Video], outlook: Outlook) -> tuple[Assignment, Video]:
    if outlook.stop:
        raise ThresholdsReachNothing(outlook.stop)
    return item


def _pair(assignment: Assignment, video: Video) -> Pair:
    video_id, query_id, text, is_positive, rank, score, runs = assignment
    places = tuple(Place(*place) for place in runs)
    return Pair(QueryText(query_id, text), video, Candidate(video_id, rank, score), is_positive, places)
