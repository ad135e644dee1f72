"""Synthesize: the teacher writes queries from each video's evidence, and text filters drop the bad ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import apache_beam as beam

from pipeline.config import SynthesizeConfig
from pipeline.engines import Engines
from pipeline.mine import QueryVectors
from pipeline.stage import LedgerBuilder, merge
from prompts.template import Template
from schemas.losses import Loss
from schemas.query import Query
from schemas.video import Video
from transforms.decontaminate.alike import DECONTAMINATE, DropAlike, tests_step
from transforms.decontaminate.decontaminate import DropTestQueries
from transforms.decontaminate.test_sets import TestSet
from transforms.join import JoinVideos
from transforms.journal.journal import Journal
from transforms.ledger import LOSSES, lost
from transforms.progress import Advance
from transforms.synthesize.filter_queries import FilterQueries
from transforms.synthesize.near_duplicates import DropNearDuplicates
from transforms.synthesize.own_filters import STEP, AskOwnFilters
from transforms.synthesize.write_queries import WriteQueries
from transforms.workers.place import place
from transforms.workers.recorded import WORK


@dataclass
class Synthesize(beam.PTransform):
    """(Video, Query by people, (video_id, split)) -> {"written": every Query by the teacher, "queries"}.

    "queries" are those that passed, and people's, which skip the text filters; of two similar queries theirs is kept.
    None is of a test set.
    """

    config: SynthesizeConfig
    engines: Engines
    journal: Journal
    prompts: Mapping[str, Template]
    seed: int
    ledger: LedgerBuilder
    test_sets: tuple[TestSet, ...] = ()

    def expand(
        self, inputs: tuple[beam.PCollection, beam.PCollection, beam.PCollection]
    ) -> dict[str, beam.PCollection]:
        videos, human, splits = inputs
        config = self.config
        selected = videos | "Select" >> beam.FlatMap(_select).with_outputs(LOSSES, main="videos")
        self.ledger.step("synthesize", "select", videos, selected.videos, selected.losses)

        asked = selected.videos | "Variants" >> beam.FlatMap(lambda video: config.variants)
        writer = WriteQueries(
            self.engines.writer,
            self.journal,
            config.variants,
            config.queries_per_variant,
            self.seed,
            self.prompts,
            config.evidence,
            config.languages,
        )
        spread = selected.videos | "Spread" >> beam.Reshuffle()
        written = place(spread, "Write", writer, self.engines.resources.get("writer"))
        self.ledger.works.append(written[WORK])
        self.ledger.step("synthesize", "write", asked, written.replies, written.losses)
        _ = asked | "Asked" >> Advance("write", "in")
        _ = written.replies | "Answered" >> Advance("write", "done")

        pairs = (written.queries, selected.videos) | "With evidence" >> JoinVideos(order=query_order)
        filtered = pairs.joined | "Filter" >> FilterQueries(config.filters)
        self.ledger.step("synthesize", "filter", written.queries, filtered.queries, filtered.losses)

        kept = filtered.queries
        if self.engines.filters:
            again = (kept, selected.videos) | "With evidence again" >> JoinVideos(order=query_order)
            asked_others = again.joined | "Own filters" >> AskOwnFilters(self.engines.filters)
            self.ledger.step("synthesize", STEP, kept, asked_others.queries, asked_others.losses)
            kept = asked_others.queries

        together = (kept, human) | "With people's" >> beam.Flatten()
        if self.test_sets:
            together = self._decontaminated(together)
        near = DropNearDuplicates(config.filters.near_duplicate_jaccard)
        distinct = (together, splits) | "Near duplicates" >> near
        self.ledger.step("synthesize", "deduplicate", together, distinct.queries, distinct.losses)
        return {"written": written.queries, "queries": distinct.queries}

    def _decontaminated(self, given: beam.PCollection) -> beam.PCollection:
        """The queries of which no test set has any: by words, and then by the vectors of each run that one names."""
        clean = given | "Decontaminate" >> DropTestQueries(self.test_sets)
        queries, losses = clean.queries, [clean.losses]
        by_run: defaultdict[str, list[TestSet]] = defaultdict(list)
        for one in self.test_sets:
            if one.vectors is not None:
                by_run[one.vectors.run].append(one)
        for run, sets in by_run.items():
            engine = self.engines.comparing(run)
            drop = DropAlike(run, sets, QueryVectors(engine, self.journal), engine, self.journal)
            apart = queries | f"Alike by {run}" >> drop
            queries = apart["queries"]
            losses.append(apart["losses"])
            self.ledger.works.append(apart[WORK])
            step = tests_step(run)
            self.ledger.step("synthesize", step, apart["tests"], apart["embedded"], apart["unembedded"])
        all_losses = merge(losses, "All decontaminated", given.pipeline)
        self.ledger.step("synthesize", DECONTAMINATE, given, queries, all_losses)
        return queries


def query_order(query: Query) -> str:
    """Queries in the order of their ids."""
    return query.query_id


def _select(video: Video) -> Iterator[Any]:
    """Only videos with frames: a reranker cannot look at the others."""
    if video.frame_pack is None:
        yield lost(Loss("rejected", "synthesize", "select", "no frames", video.uri, video.video_id))
    else:
        yield video
