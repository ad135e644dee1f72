"""Judge: the teacher says of every query's positive and candidates whether the video answers the query.

And of positives whether it would say so without one modality of the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import apache_beam as beam

from pipeline.config import JudgeConfig
from pipeline.engines import Engines
from pipeline.stage import LedgerBuilder
from prompts.template import Template
from schemas.query import Candidate, Judgement, Opinion, Place, QueryText
from schemas.video import Video
from transforms.curate.outlook import Outlook, ThresholdsReachNothing, is_judged_first, outlook_of, without_words
from transforms.curate.thresholds import CurateConfig
from transforms.join import JoinVideos
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import DOUBTFUL, JudgeOptions, JudgePairs, Pair, opinion_of
from transforms.judge.necessity import STEP as NECESSITY
from transforms.judge.necessity import FindNecessity, left_out, positives_of
from transforms.mine.choose_pairs import Assignment
from transforms.progress import Advance, announce
from transforms.workers.place import place
from transforms.workers.recorded import WORK

FIRST = "judge"  # the first judge's name in the ledger; those of a panel have their own


@dataclass(frozen=True, slots=True)
class FirstLook:
    """That a ``share`` of all queries are judged before the others, to see what these rules will make of them all."""

    rules: CurateConfig
    share: float


class Judged(NamedTuple):
    """What a judge makes of pairs: the queries of those that it was asked about, what it said, and its losses."""

    asked: beam.PCollection
    said: beam.PCollection
    losses: beam.PCollection


@dataclass
class Judge(beam.PTransform):
    """(Assignment, Video) -> {"judgements": Judgement, "losses": Loss of a pair}, and what the panel says, if any:
    {"panel": (query_id, (video_id, Opinion))}.

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
        judged = self._judged(assigned, videos) if self.first is None else self._in_turn(assigned, videos, self.first)
        for judge, (asked, said, losses) in judged.items():
            self.ledger.step("judge", judge, asked, said, losses)
        first, *panel = judged.values()
        found = {"judgements": first.said, "losses": first.losses}
        if panel:
            found["losses"] = [one.losses for one in judged.values()] | "All losses" >> beam.Flatten()
            found["panel"] = [one.said for one in panel] | "Panel" >> beam.Flatten()
        return found

    def _in_turn(self, assigned: beam.PCollection, videos: beam.PCollection, look: FirstLook) -> dict[str, Judged]:
        """See ``_judged``; some queries first, and the others only once it was seen what becomes of those."""
        rest, first = assigned | "Part" >> beam.Partition(_part, 2, look.share, self.seed)
        needed = first | "Their videos" >> beam.Map(itemgetter(0)) | "Needed" >> beam.combiners.ToSet()
        theirs = videos | "Of first" >> beam.Filter(_is_needed, beam.pvalue.AsSingleton(needed))
        before = self._judged(first, theirs, " first")
        outlook = (
            before[FIRST].said
            | "Without words" >> beam.Map(without_words)
            | "All first" >> beam.combiners.ToList()
            | "Look" >> beam.Map(_look, look.rules, may_stop=not self.journal.look_only)
        )
        after = self._judged(rest, videos, outlook=beam.pvalue.AsSingleton(outlook))
        return {judge: _both(judge, before[judge], after[judge]) for judge in before}

    def _judged(
        self,
        assigned: beam.PCollection,
        videos: beam.PCollection,
        which: str = "",
        outlook: beam.pvalue.AsSingleton | None = None,
    ) -> dict[str, Judged]:
        """What each judge makes of pairs, the first and then the panel, once there is an ``outlook``."""
        # Joined by video, so that all questions about a video come one after the other and share a prompt prefix.
        joined = (assigned, videos) | f"With evidence{which}" >> JoinVideos(order=itemgetter(1), key=itemgetter(0))
        ready = joined.joined if outlook is None else joined.joined | "Go on" >> beam.Map(_go_on, outlook)
        due = ready | f"Pairs{which}" >> beam.MapTuple(_pair)
        config = self.config
        options = JudgeOptions(
            config.modalities,
            self.seed,
            config.evidence,
            self.prompt,
            no_rationale_below=config.no_rationale_below,
            panel=config.heeds,
        )
        judge = JudgePairs(self.engines.judge, self.journal, options)
        judged = place(due, f"Judge{which}", judge, self.engines.resources.get("judge"))
        self.ledger.works.append(judged[WORK])
        # Counted before what is judged first and what after is put together, which ends the runner's step.
        said = judged.judgements | f"Done{which}" >> Advance("judge", "done")
        found = {FIRST: Judged(assigned, said, judged.losses)}
        for name in config.panel:
            found[name] = self._judged_again(name, judged[DOUBTFUL], options, which)
        return found

    def _judged_again(self, name: str, doubtful: beam.PCollection, options: JudgeOptions, which: str) -> Judged:
        """What a judge of the panel makes of the pairs that the first doubts; it says an opinion of each."""
        label = f"{name}{which}"
        options = replace(options, member=name, no_rationale_below=None, panel=None)
        judge = JudgePairs(self.engines.panel[name], self.journal, options)
        due = doubtful | f"Due to {label}" >> Advance("panel", "in")
        judged = place(due, f"Panel {label}", judge, self.engines.resources.get(f"panel.{name}"))
        self.ledger.works.append(judged[WORK])
        asked = due | f"Asked {label}" >> beam.Map(lambda pair: pair.query.query_id)  # and no evidence goes further
        done = judged.judgements | f"Done {label}" >> Advance("panel", "done")
        return Judged(asked, done | f"Opinions {label}" >> beam.Map(_opinion, name), judged.losses)


@dataclass
class FindNecessities(beam.PTransform):
    """(Example, Video) -> Necessity of the positives of a share of the examples; see ``FindNecessity``."""

    config: JudgeConfig
    engines: Engines
    journal: Journal
    prompt: Template
    seed: int
    ledger: LedgerBuilder

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.PCollection:
        examples, videos = inputs
        config = self.config
        share = config.necessity.share if config.necessity else 0.0
        positives = examples | "Positives" >> beam.FlatMap(positives_of, share, self.seed)
        joined = (positives, videos) | "With evidence" >> JoinVideos(order=attrgetter("query.query_id"))
        options = JudgeOptions(config.modalities, self.seed, config.evidence, self.prompt)
        find = FindNecessity(self.engines.judge, self.journal, options)
        found = place(joined.joined, "Leave out", find, self.engines.resources.get("judge"))
        self.ledger.works.append(found[WORK])
        asked = joined.joined | "Asked" >> beam.FlatMapTuple(lambda _, video: left_out(video, options))
        answered = found.found | "Answered" >> beam.FlatMap(attrgetter("without"))
        asked = asked | "Due" >> Advance(NECESSITY, "in")
        answered = answered | "Done" >> Advance(NECESSITY, "done")
        self.ledger.step("judge", NECESSITY, asked, answered, found.losses)
        return found.found


def _both(judge: str, before: Judged, after: Judged) -> Judged:
    named = zip(Judged._fields, zip(before, after, strict=True), strict=True)
    return Judged(*(parts | f"Both {name} {judge}" >> beam.Flatten() for name, parts in named))


def _opinion(judgement: Judgement, member: str) -> tuple[str, tuple[str, Opinion]]:
    return judgement.query_id, (judgement.video_id, opinion_of(judgement, member))


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
