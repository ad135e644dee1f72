"""Judge: the teacher says of every query's positive and candidates whether the video answers the query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import apache_beam as beam

from pipeline.config import JudgeConfig
from pipeline.engines import Engines
from pipeline.stage import LedgerBuilder
from prompts.template import Template
from schemas.example import Split
from schemas.query import Candidate, QueryText
from schemas.video import Video
from transforms.join import JoinVideos
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, JudgePairs, Pair
from transforms.mine.filter_rankings import candidates_to_judge
from transforms.mine.retrieve import Ranking
from transforms.progress import Advance

# A pair before its video is at hand: video id, query id, the query's text, whether the video is its own, and the
# video's rank and score. A plain tuple, because there are some 20 a query and Beam encodes nothing in less.
Assignment = tuple[str, str, str, bool, int, float]


@dataclass
class Judge(beam.PTransform):
    """(Ranking, Video, (video_id, split)) -> {"judgements": Judgement, "losses": Loss of a pair}."""

    config: JudgeConfig
    engines: Engines
    journal: Journal
    prompt: Template
    candidates: int
    seed: int
    ledger: LedgerBuilder

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]) -> dict[str, Any]:
        rankings, videos, splits = inputs
        assigned = (
            rankings
            | "Assign" >> beam.FlatMap(assign, beam.pvalue.AsDict(splits), self.candidates)
            | "Due" >> Advance("judge", "in")
        )
        # Joined by video, so that all questions about a video come one after the other and share a prompt prefix.
        joined = (assigned, videos) | "With evidence" >> JoinVideos(order=itemgetter(1), key=itemgetter(0))
        pairs = joined.joined | "Pairs" >> beam.MapTuple(_pair)
        config = self.config
        options = JudgeOptions(
            config.modalities, self.seed, config.evidence, self.prompt, no_rationale_below=config.no_rationale_below
        )
        judged = pairs | "Judge" >> JudgePairs(self.engines.judge, self.journal, options)
        self.ledger.step("judge", "judge", assigned, judged.judgements, judged.losses)
        return {"judgements": judged.judgements | "Done" >> Advance("judge", "done"), "losses": judged.losses}


def assign(ranking: Ranking, splits: Mapping[str, Split], depth: int) -> Iterator[Assignment]:
    """The pairs of one query that the teacher is asked about: its positive, then candidates of its own split."""
    query = ranking.query
    for candidate in candidates_to_judge(ranking, splits.__getitem__, depth):
        video_id = candidate.video_id
        yield video_id, query.query_id, query.text, video_id == query.video_id, candidate.rank, candidate.score


def _pair(assignment: Assignment, video: Video) -> Pair:
    video_id, query_id, text, is_positive, rank, score = assignment
    return Pair(QueryText(query_id, text), video, Candidate(video_id, rank, score), is_positive)
