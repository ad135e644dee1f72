"""Curate: judgements become whole query groups - a positive, trusted and hard negatives - or a reason why not.

And groups of one video: a kept query, and queries that look like it and that the video does not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import apache_beam as beam

from pipeline.engines import Engines
from pipeline.stage import LedgerBuilder
from prompts.template import Template
from schemas.example import NegativeQueries, NegativeQuery, PerceptionExample, Rewording, Split
from schemas.losses import Loss, LossKind
from schemas.people.mark import Mark
from schemas.query import Judgement, Opinion
from schemas.video import Video
from transforms.curate.choose_negatives import ChooseNegatives, video_examples
from transforms.curate.concept_balance import Balance, DropOneSided
from transforms.curate.curate_query import DEFERRED, CuratedPair, CurateExamples, Group
from transforms.curate.thresholds import CurateConfig, FindThresholds
from transforms.join import JoinVideos
from transforms.journal.journal import Journal
from transforms.judge.verify_negatives import VerifyNegatives, Wordings
from transforms.ledger import LOSSES, lost
from transforms.progress import Advance
from transforms.synthesize.filter_queries import TextFilters
from transforms.synthesize.negative_queries import FilterNegatives, NegativeQueriesConfig, WriteNegatives
from transforms.teacher.panel import PanelRules
from transforms.workers.place import place
from transforms.workers.recorded import WORK


@dataclass
class Curate(beam.PTransform):
    """(Ranking, {"judgements", "panel", "losses"}, (video_id, split)) -> {"examples": Example, "pairs", "thresholds"}.

    "pairs" are a CuratedPair of every judgement, "thresholds" the one Thresholds that were fitted, not there
    where there are none. A query that has a pair still to be judged is deferred as a whole. ``panel`` is when further
    judges were asked, None where there are none. ``marks`` are what people say is wrong, by query id and by video id,
    "" for the query as a whole. "panel" are (query_id, (video_id, Opinion)), where there is one.
    """

    config: CurateConfig
    ledger: LedgerBuilder
    marks: Mapping[str, Mapping[str, Mark]] = field(default_factory=dict)
    panel: PanelRules | None = None

    def expand(self, inputs: tuple[beam.PCollection, dict[str, Any], beam.PCollection]) -> dict[str, Any]:
        rankings, judged, splits = inputs
        judgements = judged["judgements"]
        due = rankings | "Due" >> Advance("curate", "in")
        groups = (
            {
                "queries": due | "Key queries" >> beam.Map(lambda one: (one.query.query_id, one.query)),
                "judgements": judgements | "Key judgements" >> beam.Map(lambda one: (one.query_id, one)),
                "waiting": judged["losses"]
                | "Waiting" >> beam.Filter(lambda one: one.kind == "deferred")
                | "Key waiting" >> beam.Map(lambda one: (one.query_id, one.reason)),
                **({"panel": judged["panel"]} if self.panel else {}),
            }
            | "Group" >> beam.CoGroupByKey()
            | "Together" >> Advance("curate", "done")
            | "Groups" >> beam.FlatMap(_group, beam.pvalue.AsDict(splits), self.marks)
        )
        found: dict[str, beam.PCollection] = {}
        if self.config.follows_margins:
            thresholds = judgements | "Thresholds" >> beam.CombineGlobally(FindThresholds(self.config))
            rules = beam.pvalue.AsSingleton(thresholds | "Rules" >> beam.Map(self.config.rules, self.panel))
            found["thresholds"] = thresholds
        else:
            rules = self.config.rules(None, self.panel)
        curated = groups | "Curate" >> CurateExamples(rules)
        self.ledger.step("curate", "queries", rankings, curated.examples, curated.losses)
        parted = curated.pairs | "Part" >> beam.FlatMap(_part).with_outputs(LOSSES, main="kept")
        self.ledger.step("curate", "pairs", judgements, parted.kept, parted.losses, listed=False)
        return {"examples": curated.examples, "pairs": curated.pairs, **found}


@dataclass
class CurateByVideo(beam.PTransform):
    """(Example, Video) -> VideoExample: each example's query with negative queries, where any is left.

    ``wordings`` are the ways in which the verifier is asked, by name; ``writer`` is the prompt for negative queries.
    ``marks`` are as for ``Curate``.
    """

    config: NegativeQueriesConfig
    filters: TextFilters
    engines: Engines
    journal: Journal
    writer: Template
    wordings: Wordings
    seed: int
    ledger: LedgerBuilder
    marks: Mapping[str, Mapping[str, Mark]] = field(default_factory=dict)

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.PCollection:
        examples, videos = inputs
        config, resources = self.config, self.engines.resources
        if self.engines.negatives is None or self.engines.verifier is None:
            raise ValueError("negative queries need who writes and who verifies them")
        engine = self.engines.negatives
        write = WriteNegatives(engine, self.journal, config.queries, self.seed, self.writer, config.reworded)
        due = examples | "Due" >> Advance("negatives", "in") | "Spread" >> beam.Reshuffle()
        written = place(due, "Write", write, resources.get("negatives"))
        self.ledger.works.append(written[WORK])
        self.ledger.step("synthesize", "negatives", examples, written.written, written.losses)
        filtered = written.written | "Done" >> Advance("negatives", "done") | "Filter" >> FilterNegatives(self.filters)

        # Joined by video, so that all questions about a video come one after the other and share a prompt prefix.
        pairs = (filtered.written, videos) | "With evidence" >> JoinVideos(order=attrgetter("query_id"))
        verify = VerifyNegatives(self.engines.verifier, self.journal, self.wordings)
        verified = place(pairs.joined, "Verify", verify, resources.get("verifier"))
        self.ledger.works.append(verified[WORK])

        chosen = verified.verified | "Choose" >> ChooseNegatives(config.kept, self.marks)
        balanced = chosen.chosen | "Balance" >> DropOneSided(Balance(config.kept, config.one_sided))
        left_out = (chosen.losses, balanced.losses) | "Left out" >> beam.Flatten()

        drafts = written.written | "Drafts" >> beam.FlatMap(_queries)
        asked = filtered.written | "Asked" >> beam.FlatMap(_queries)
        denied = verified.verified | "Denied" >> beam.FlatMap(_queries)
        kept = balanced.groups | "Kept" >> beam.FlatMap(_queries)
        written_again = written.written | "Reworded" >> beam.FlatMap(_rewording)
        asked_again = filtered.written | "Asked again" >> beam.FlatMap(_rewording)
        affirmed = verified.verified | "Affirmed" >> beam.FlatMap(_rewording)
        _ = (asked, asked_again) | "All asked" >> beam.Flatten() | "Due to verify" >> Advance("verify", "in")
        _ = (denied, affirmed) | "All verified" >> beam.Flatten() | "Verified" >> Advance("verify", "done")
        self.ledger.step("synthesize", "filter negatives", drafts, asked, filtered.losses)
        self.ledger.step("judge", "verify", asked, denied, verified.losses)
        self.ledger.step("curate", "negatives", denied, kept, left_out)
        self.ledger.step("synthesize", "filter rewordings", written_again, asked_again)
        self.ledger.step("judge", "verify rewordings", asked_again, affirmed)
        return balanced.groups | "Examples" >> beam.FlatMap(video_examples)


def _queries(group: NegativeQueries) -> tuple[NegativeQuery, ...]:
    return group.queries


def _rewording(group: NegativeQueries) -> tuple[Rewording, ...]:
    return () if group.rewording is None else (group.rewording,)


def _part(pair: CuratedPair) -> Iterator[Any]:
    """A pair that was kept, or what became of it; one of a deferred query waits with it."""
    judged = pair.judgement
    if pair.kept:
        yield pair
    else:
        kind: LossKind = "deferred" if pair.reason == DEFERRED else "rejected"
        yield lost(Loss(kind, "curate", "pairs", pair.reason, "", judged.video_id, judged.query_id))


def _group(
    grouped: tuple[str, Mapping[str, Iterable[Any]]],
    splits: Mapping[str, Split],
    marks: Mapping[str, Mapping[str, Mark]],
) -> Iterator[tuple[str, Group]]:
    query_id, group = grouped
    for query in group["queries"]:
        deferred = min(group["waiting"], default="")
        said = marks.get(query_id, {})
        judgements = tuple(_with_panel(group["judgements"], group.get("panel", ())))
        yield query_id, Group(query, splits[query.video_id], judgements, deferred, said)


def _with_panel(judgements: Iterable[Judgement], panel: Iterable[tuple[str, Opinion]]) -> Iterator[Judgement]:
    """The judgements, each with what the panel says of its video."""
    found: dict[str, list[Opinion]] = {}
    for video_id, opinion in panel:
        found.setdefault(video_id, []).append(opinion)
    for one in judgements:
        said = sorted(found.get(one.video_id, ()), key=lambda opinion: opinion.judge)
        yield replace(one, panel=tuple(said)) if said else one


def caption_example(video: Video, split: Split) -> PerceptionExample | None:
    """The perception example of a video, or None where it has no frames or no caption."""
    captioner = next((use.engine for use in video.engines if use.part == "caption"), None)
    if captioner is None or video.frame_pack is None or not video.evidence.caption:
        return None
    return PerceptionExample(video.video_id, split, video.evidence.caption, captioner)
