"""How much work waits behind work that is not done: estimates for the steps whose questions are not known yet."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pipeline.config import MineConfig, Recipe
from pipeline.planning.changes import NotHeld
from schemas.query import WITH_PARTS, Variant
from schemas.video import MODALITIES, Modality
from transforms.decontaminate.test_sets import TestFile
from transforms.protocols.teacher import Ladder

Counts = Mapping[str, Mapping[str, float]]

# Of what cannot be known before anything was done: as it was with the sample corpus and with clips of people, and no
# more than that. A few videos that were done (--limit) take the place of all three.
_WITH_EVIDENCE = 0.9  # of the prompts that may have evidence, those that had some
_KEPT = 0.8  # of the queries that were asked for, those that were written and not filtered out
_IN_GROUPS = 0.8  # of the queries that were judged, those that become groups
_SHARING_A_WORD = 0.32  # of the videos of its split, those that BM25 finds for a query

_WORDINGS = 2  # in which a verifier is asked

AT_HAND = "synthesize/select"  # the line of the ledger that counts videos whose evidence is there
# The line of queries that may say what others say, and how many of other videos said the same as those that stayed.
ALIKE, OF_OTHERS = "synthesize/deduplicate", "of others"

# An estimate is half an order of two: what comes lies between it divided and multiplied by this.
SPREAD = math.sqrt(2.0)
# Before any video of the input is done, a third may come: of clips with neither speech nor text, which no header tells.
COLD = 3.0


@dataclass(frozen=True)
class Flow:
    """What a look at the cached part of a job saw.

    ``counts`` are items by line of the ledger and outcome; ``calls`` are those of a step that could be looked up,
    cached or not; ``answered`` those that were cached. ``human`` are queries by people. ``ladder`` is the judge's.
    ``prompts`` are those that each video not looked up may have evidence for, on average; None: all of the variants.
    ``words_alone`` says that every first stage finds a video by its words, and not those that have none of a query's.
    """

    recipe: Recipe
    counts: Counts
    calls: Mapping[str, float]
    answered: Mapping[str, float]
    human: int
    ladder: Ladder
    prompts: float | None = None
    words_alone: bool = False

    @property
    def at_hand(self) -> float:
        """The videos whose evidence is there to write from."""
        return self._count(AT_HAND, "out")

    def spread(self, guess: float) -> tuple[int, int]:
        """What a guess may come to: between half an order of two below and above it where some videos are at hand."""
        return math.ceil(guess / (SPREAD if self.at_hand else COLD)), max(1, math.floor(guess * SPREAD))

    def write_calls(self, videos: float) -> float:
        """Calls that so many more videos will take: as many each as those at hand, else for most of the prompts."""
        return videos * (self.calls["write"] / self.at_hand if self.at_hand else self._prompts() * _WITH_EVIDENCE)

    def judge_calls(self, videos: float, write_calls: float) -> float:
        """All calls, cached ones included, once so many more videos are there and so many more calls have written."""
        ranked, pairs = self._count("mine/filter", "out"), self._count("judge/judge", "in")
        queries = self.searched(write_calls) * self._passed("mine/filter")
        most = self.pairs_a_query(self.at_hand + videos)
        if not (ranked and pairs):
            return queries * most * calls_of_pair(self.ladder)
        # Those at hand may have found more than was supposed of so few videos; no query has more than the most.
        a_query = min(most, pairs / ranked * most / self.pairs_a_query(self.at_hand))
        return queries * a_query * self.calls["judge"] / pairs

    def groups(self, write_calls: float) -> float:
        """All queries that become groups, once so many more calls have written some: a call each for negatives."""
        entered = self._count("curate/queries", "in") - self._count("curate/queries", "deferred")
        kept = self._count("curate/queries", "out") / entered if entered else _IN_GROUPS
        return self.searched(write_calls) * self._passed("mine/filter") * kept

    def verify_calls(self, negatives_calls: float, ladder: Ladder) -> float:
        """All calls of the verifier, of this ladder, once so many calls have written negatives."""
        config = self.recipe.synthesize.negative_queries
        if config is None:
            return 0.0
        replies = self._count("synthesize/negatives", "out")
        asked = self._count("judge/verify", "in") + self._count("judge/verify rewordings", "in")
        each = asked / replies if replies else _KEPT * (config.queries + config.reworded)
        first = "prior" if ladder.prior else "label_only"
        return negatives_calls * each * _WORDINGS * (1 + calls_to_follow(ladder, first))

    def necessity_calls(self, groups: float) -> float:
        """All calls about the positives of so many groups without a modality: one each of those that a judge sees."""
        judge = self.recipe.judge
        if judge.necessity is None:
            return 0.0
        at_hand = self._count("curate/queries", "out")
        if at_hand:
            each = self._count("judge/necessity", "in") / at_hand
        else:
            # A video of which a query was kept is one that has evidence.
            seen = min(self._prompts() - self._of_all(), len(set(judge.modalities).intersection(present(self.recipe))))
            each = judge.necessity.share * seen if seen > 1 else 0.0
        return groups * each * calls_of_pair(self.ladder)

    def searched(self, write_calls: float) -> float:
        """All queries that are searched for, once so many more calls have written some.

        The more there are, the more of them say what another video's says, for pairs grow faster than queries do. Those
        that are left grow with a power of all, as distinct words do by Heaps' law: with n queries and d dropped for
        those of other videos, the power at which they grow there, 1 - d / (n - d).
        """
        queries, entered, kept = self._queries(write_calls), self._count(ALIKE, "in"), self._count(ALIKE, "out")
        if not kept:
            return queries * self._passed(ALIKE)
        of_others = min(1.0, self._count(ALIKE, OF_OTHERS) / kept)
        growth: float = (queries / entered) ** -of_others
        return queries * kept / entered * growth

    def _queries(self, write_calls: float) -> float:
        kept, answered = self._count("synthesize/filter", "out"), self.answered["write"]
        writing = self.recipe.synthesize
        queries_a_call = kept / answered if answered else _KEPT * writing.queries_a_video / len(writing.variants)
        return kept + write_calls * queries_a_call + self.human

    def embed_video_calls(self, videos: float, of_text: int, of_frames: int) -> float:
        """Results that so many more videos will take: as many each as those at hand, else one a field of evidence.

        ``of_text`` and ``of_frames`` are how many embedders read the one and the other, which they embed whole.
        """
        if self.at_hand:
            return videos * self.calls["embed_video"] / self.at_hand
        fields = self.write_calls(1) - self._of_all()
        return videos * (of_text * max(1.0, fields) + of_frames)

    def pairs_a_query(self, videos: float) -> float:
        """The most videos that a query is judged with, its own among them."""
        return self._candidates(videos) + 1.0

    def replaced(self, before: float, videos: float) -> float:
        """The share of a query's negatives among the videos ``before`` that others push out, once so many are there.

        As if any video were as likely as another to be found.
        """
        had, depth = self._candidates(before), self._candidates(videos)
        return max(0.0, 1.0 - depth * self._pool(before) / (self._pool(videos) * had)) if had else 0.0

    def _candidates(self, videos: float) -> float:
        """The most negatives that a query can have."""
        return min(float(depth_of(self.recipe.mine)), self._pool(videos))

    def _pool(self, videos: float) -> float:
        """The videos that a query may be judged with besides its own: a judge sees those of the query's own split."""
        held_out = self.recipe.emit.validation_fraction
        same_split = max(0.0, videos - 1.0) * (held_out**2 + (1.0 - held_out) ** 2)
        return same_split * (_SHARING_A_WORD if self.words_alone else 1.0)

    def _prompts(self) -> float:
        """The most prompts of a video, on average."""
        return float(len(variants_of(self.recipe))) if self.prompts is None else self.prompts

    def _of_all(self) -> int:
        """Of the prompts of a video, those that are about more than one modality."""
        return len({"all", *WITH_PARTS}.intersection(self.recipe.synthesize.variants))

    def _count(self, line: str, outcome: str) -> float:
        return self.counts.get(line, {}).get(outcome, 0)

    def _passed(self, line: str) -> float:
        """The share of items that came through a step; all of none."""
        entered = self._count(line, "in")
        return self._count(line, "out") / entered if entered else 1.0


def depth_of(mine: MineConfig) -> int:
    """The most negatives that a query gets, however large its corpus is."""
    return min(mine.candidates, sum(mine.fusion.quotas.get(name, mine.candidates) for name in mine.first_stages))


def calls_of_pair(ladder: Ladder) -> int:
    """How many calls a judge is asked about a pair, if the first rung answers."""
    return 1 + calls_to_follow(ladder, "prior" if ladder.prior else "label_only")


def calls_behind(ladder: Ladder, missing: Collection[NotHeld], no_rationale_below: float | None) -> int:
    """How many calls of the judge follow those that are ``missing``, and could not be looked up yet.

    All samples of a pair are looked up at once. So are a prior and the question with a rationale, unless the prior may
    make that one needless.
    """
    looked_up = {one.subject for one in missing} if no_rationale_below is not None else set()
    calls = 0
    for one in missing:
        at_once = no_rationale_below is None or one.subject.removesuffix(" prior") in looked_up
        if one.confidence != "prior" or not at_once:
            calls += calls_to_follow(ladder, one.confidence)
    return calls


def calls_behind_panel(panel: Mapping[str, Ladder], missing: Collection[NotHeld]) -> int:
    """As ``calls_behind``; a question of the panel has a subject that begins with the judge's name."""
    asked: dict[str, list[NotHeld]] = {name: [] for name in panel}
    for one in missing:
        asked[one.subject.partition(" ")[0]].append(one)
    return sum(calls_behind(ladder, asked[name], None) for name, ladder in panel.items())


def calls_to_follow(ladder: Ladder, asked: str) -> int:
    """How many calls about a pair follow one that asks this of the judge's confidence, if the first rung answers.

    Fewer follow a prior that makes a rationale needless.
    """
    if asked == "prior":
        return 1 + calls_to_follow(ladder, "label_only")
    if asked not in ("label_only", "logprobs", "logprobs_exact"):
        return 0
    return {"logprobs_prefill": 1, "verbalized": 1, "sampling": ladder.samples}.get("".join(ladder.rungs[:1]), 0)


def test_queries(recipe: Recipe, files: Iterable[TestFile]) -> int:
    """How many queries of test sets are embedded, to compare others with them."""
    alike = {each.name for each in recipe.decontaminate if each.vectors is not None}
    return sum(file.entries for file in files if file.kind == "queries" and file.test_set in alike)


def compared_by(recipe: Recipe) -> int:
    """By how many first stages queries are compared with those of test sets, before they search."""
    return len({each.vectors.run for each in recipe.decontaminate if each.vectors is not None})


def variants_of(recipe: Recipe) -> list[Variant]:
    """Those that some evidence can be there for."""
    there = {"all", *WITH_PARTS, *present(recipe)}
    return [variant for variant in recipe.synthesize.variants if variant in there]


def present(recipe: Recipe) -> list[Modality]:
    """The modalities that some evidence can be there of."""
    absent = {name for name in ("asr", "ocr", "caption") if getattr(recipe.extract, name) is None}
    return [modality for modality in MODALITIES if modality not in absent]
