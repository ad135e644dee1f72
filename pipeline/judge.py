"""Judge: the teacher says of every query's positive and candidates whether the video answers the query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.config import JudgeConfig
from pipeline.engines import Engines
from pipeline.stage import Account
from prompts.template import Template
from schemas.example import Split
from schemas.query import Candidate, Query
from schemas.video import Video
from transforms.join import JoinVideos
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgePairs, Pair
from transforms.mine.filter_rankings import candidates_to_judge
from transforms.mine.retrieve import Ranking
from transforms.progress import Advance


@dataclass(frozen=True, slots=True)
class Assignment:
    """A pair before its video is at hand."""

    query: Query
    candidate: Candidate


@dataclass
class Judge(beam.PTransform):
    """(Ranking, Video, (video_id, split)) -> {"judgements": Judgement, "deferred": Deferral of a pair}."""

    config: JudgeConfig
    engines: Engines
    journal: Journal
    prompt: Template
    candidates: int
    seed: int
    account: Account

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]) -> dict[str, Any]:
        rankings, videos, splits = inputs
        assigned = (
            rankings
            | "Assign" >> beam.FlatMap(assign, beam.pvalue.AsDict(splits), self.candidates)
            | "Due" >> Advance("judge", "in")
        )
        # Joined by video, so that all questions about a video come one after the other and share a prompt prefix.
        joined = (assigned, videos) | "With evidence" >> JoinVideos(order=_query_id, key=_video_id)
        pairs = joined.joined | "Pairs" >> beam.MapTuple(_pair)
        judge = JudgePairs(
            self.engines.judge,
            self.journal,
            self.config.modalities,
            self.seed,
            self.prompt,
            self.config.evidence,
            self.config.no_rationale_below,
        )
        judged = pairs | "Judge" >> judge
        self.account.step(
            "judge",
            "judge",
            assigned,
            judged.judgements,
            rejections=judged.rejections,
            failures=judged.failures,
            deferred=judged.deferred,
        )
        _ = judged.failures | "Failed" >> Advance("judge", "failed")
        return {"judgements": judged.judgements | "Done" >> Advance("judge", "done"), "deferred": judged.deferred}


def assign(ranking: Ranking, splits: Mapping[str, Split], depth: int) -> Iterator[Assignment]:
    """The pairs of one query that the teacher is asked about: its positive, then candidates of its own split."""
    for candidate in candidates_to_judge(ranking, splits.__getitem__, depth):
        yield Assignment(ranking.query, candidate)


def _video_id(assignment: Assignment) -> str:
    return assignment.candidate.video_id


def _query_id(assignment: Assignment) -> str:
    return assignment.query.query_id


def _pair(assignment: Assignment, video: Video) -> Pair:
    query = assignment.query
    return Pair(query, video, assignment.candidate, is_positive=query.video_id == video.video_id)
