"""Mine: the first stages rank candidates for every query, and what the teacher need not be asked about is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.config import MineConfig
from pipeline.engines import Engines, FirstStage
from pipeline.stage import LedgerBuilder, merge
from schemas.losses import Loss
from schemas.query import Query, QueryText
from schemas.video import Video
from transforms.journal.journal import Journal
from transforms.ledger import LOSSES, lost
from transforms.mine.choose_pairs import ChoosePairs, LeaveOut
from transforms.mine.embed import embed_query, embed_video
from transforms.mine.filter_rankings import FilterRankings
from transforms.mine.retrieve import Ranking, RetrieveByText, Retrieved, ranking_of
from transforms.mine.search_vectors import RetrieveByVectors
from transforms.progress import Advance
from transforms.protocols.embed import Embedding, EmbedEngine
from transforms.search.fusion import FusionConfig, fuse
from transforms.search.search import SearchOptions
from transforms.storage.cache import Cache, CachedFile
from transforms.workers.recorded import WORK

PRESENT = ""  # the reason why a video waits that does not


@dataclass(frozen=True)
class FrameVectors:
    """Where the vectors of a video's frames lie that a run compares; they are made unless they are there."""

    engine: EmbedEngine
    cache: Cache
    journal: Journal

    def __call__(self, video: Video) -> CachedFile | None:
        embedded = embed_video(video, self.engine, self.cache, self.journal)
        return embedded.files[0][0] if embedded is not None else None


@dataclass(frozen=True)
class QueryVectors:
    """The vectors of a query by a run, which are made unless they are there."""

    engine: EmbedEngine
    journal: Journal

    def __call__(self, query: QueryText) -> Embedding:
        return embed_query(query, self.engine, self.journal)


@dataclass
class Mine(beam.PTransform):
    """Queries, and the videos that may answer them -> {"ranked", "rankings", "pairs"}.

    Given are Query, Video with frames, Loss of videos that wait, (video_id, split) and (video_id, the name of its
    near-duplicate group). "ranked" is the Ranking of every query, "rankings" those that are kept, "pairs" the
    Assignment of every pair to judge. A query by people waits for its video, where that is deferred.
    """

    config: MineConfig
    engines: Engines
    cache: Cache
    journal: Journal
    ledger: LedgerBuilder

    def expand(self, inputs: tuple[beam.PCollection, ...]) -> dict[str, beam.PCollection]:
        queries, corpus, deferred, splits, near = inputs
        config = self.config
        known = (
            corpus | "Present" >> beam.Map(lambda video: (video.video_id, PRESENT)),
            deferred | "Waiting" >> beam.Map(lambda video: (video.video_id, video.reason)),
        ) | "Known videos" >> beam.Flatten()
        selected = queries | "Select" >> beam.FlatMap(_select, beam.pvalue.AsDict(known)).with_outputs(
            LOSSES, main="queries"
        )
        self.ledger.step("mine", "select", queries, selected.queries, selected.losses)

        found = selected.queries | "Due" >> Advance("retrieve", "in") | "Nothing yet" >> beam.Map(Retrieved)
        losses = []
        for stage in self.engines.first_stages:
            if stage.search is None:
                by_text = RetrieveByText(stage.name, stage.engine, config.retrievable_at, stage.weights)
                found = (found, corpus) | f"Retrieve {stage.name}" >> by_text
            else:
                found, lost_queries = self._by_vectors(stage, stage.search, found, corpus)
                losses.append(lost_queries)
        ranked = found | "Fuse" >> beam.Map(ranked_by, config.fusion, config.retrievable_at)
        unfound = merge(losses, "Not retrieved", queries.pipeline)
        self.ledger.step("mine", "retrieve", selected.queries, ranked, unfound)

        filtered = ranked | "Done" >> Advance("retrieve", "done") | "Filter" >> FilterRankings(config.ambiguity)
        self.ledger.step("mine", "filter", ranked, filtered.rankings, filtered.losses)

        choose = ChoosePairs(config.candidates, config.margin, config.fusion.quotas)
        looked_at = (filtered.rankings, splits, near) | "Choose" >> choose
        choices = looked_at.pop("choices")
        chosen = choices | "Guard" >> LeaveOut()
        self.ledger.step("mine", "guard", choices, chosen.pairs, chosen.losses)
        return {"ranked": ranked, "rankings": filtered.rankings, "pairs": chosen.pairs, **looked_at}

    def _by_vectors(
        self, stage: FirstStage, options: SearchOptions, queries: beam.PCollection, corpus: beam.PCollection
    ) -> tuple[beam.PCollection, beam.PCollection]:
        run = RetrieveByVectors(
            stage.name, stage.engine, self.cache, self.journal, self.config.retrievable_at, stage.weights, options
        )
        made = (queries, corpus) | f"Retrieve {stage.name}" >> run
        self.ledger.works.append(made[WORK])
        self.ledger.step("mine", f"embed {stage.name}", corpus, made["embedded"], made["unembedded"])
        return made["found"], made["losses"]


def ranked_by(found: Retrieved, fusion: FusionConfig, depth: int) -> Ranking:
    """The ranking of a query by its runs: the only one as it is, several fused to the best ``depth``."""
    (_, only), *others = found.runs
    fused = fuse(dict(found.runs), fusion, depth) if others else only
    return ranking_of(found.query, fused, found.runs, found.own)


def _select(query: Query, known: Mapping[str, str]) -> Iterator[Any]:
    """A query whose video is there; ``known`` says by id why a video is not, or that it is."""
    why = known.get(query.video_id)
    if why == PRESENT:
        yield query
    elif why is not None:
        yield lost(Loss("deferred", "mine", "select", why, "", query.video_id, query.query_id))
    else:
        detail = "no video of this id has frames in this run"
        yield lost(Loss("rejected", "mine", "select", "unknown video", detail, query.video_id, query.query_id))
