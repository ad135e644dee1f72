"""Judge: the teacher says of every query's positive and candidates whether the video answers the query."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import apache_beam as beam

from pipeline.config import JudgeConfig
from pipeline.engines import Engines
from pipeline.stage import LedgerBuilder
from prompts.template import Template
from schemas.query import Candidate, Place, QueryText
from schemas.video import Video
from transforms.join import JoinVideos
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, JudgePairs, Pair
from transforms.mine.choose_pairs import Assignment
from transforms.progress import Advance
from transforms.workers.place import place
from transforms.workers.recorded import WORK


@dataclass
class Judge(beam.PTransform):
    """(Assignment, Video) -> {"judgements": Judgement, "losses": Loss of a pair}."""

    config: JudgeConfig
    engines: Engines
    journal: Journal
    prompt: Template
    seed: int
    ledger: LedgerBuilder

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> dict[str, Any]:
        pairs, videos = inputs
        assigned = pairs | "Due" >> Advance("judge", "in")
        # Joined by video, so that all questions about a video come one after the other and share a prompt prefix.
        joined = (assigned, videos) | "With evidence" >> JoinVideos(order=itemgetter(1), key=itemgetter(0))
        due = joined.joined | "Pairs" >> beam.MapTuple(_pair)
        config = self.config
        options = JudgeOptions(
            config.modalities, self.seed, config.evidence, self.prompt, no_rationale_below=config.no_rationale_below
        )
        judge = JudgePairs(self.engines.judge, self.journal, options)
        judged = place(due, "Judge", judge, self.engines.resources.get("judge"))
        self.ledger.works.append(judged[WORK])
        self.ledger.step("judge", "judge", assigned, judged.judgements, judged.losses)
        return {"judgements": judged.judgements | "Done" >> Advance("judge", "done"), "losses": judged.losses}


def _pair(assignment: Assignment, video: Video) -> Pair:
    video_id, query_id, text, is_positive, rank, score, runs = assignment
    places = tuple(Place(*place) for place in runs)
    return Pair(QueryText(query_id, text), video, Candidate(video_id, rank, score), is_positive, places)
