"""Why the rows of queries and of judgements differ: who wrote and who judged them, from what, by which rules."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from pipeline.outputs.diff.compare import Change
from pipeline.outputs.diff.given import NOTHING, Cause, Causes, Given, through
from pipeline.outputs.diff.lost import Lost
from pipeline.outputs.diff.video_causes import VideoCauses
from pipeline.outputs.tables import Row
from schemas.query import PAPERS_VARIANTS, WITH_PARTS
from schemas.video import MODALITIES
from transforms.synthesize.write_queries import task_of

_FOUND = {"positive_rank", "positive_score", "positive_runs"}
_VERDICT = {"verdict", "stage", "reason", "detail"}
_PLACED = {"rank", "score", "runs"}
_CURATED = {"kept", "reason"}
_STRATA = ("curate.alpha1", "curate.alpha2", "curate.positives")
_FILTER, _DEDUPLICATE, _MINE, _CURATE, _KEPT = range(5)
_SIMILAR = re.compile(r"similar to (\S+)")


class QueryCauses:
    """Attributes changes of queries and judgements; queries are told first, for their judgements, and asked last."""

    def __init__(self, given: Given, lost: tuple[Lost, Lost], videos: VideoCauses, queries: Iterable[Change]) -> None:
        self._given = given
        self._lost = lost
        self._videos = videos
        self._queries = {change.key[0]: change for change in queries}
        self._judged: dict[str, Causes] = {}
        self._seed = given.recipe("seed")
        self._judge_sees = set.union(*given.listed("judge", "modalities", MODALITIES))
        self._judge_asked = given.prompt("judge") | given.recipe("judge.modalities", "judge.evidence")
        corpus = through(videos.corpus, "the corpus")
        self._first_stage = given.first_stages() | corpus

    def query(self, query_id: str) -> Causes:
        """The causes of a row of the queries table; none where it is the same in both."""
        change = self._queries.get(query_id)
        if change is None:
            return NOTHING
        found = self.written(query_id)
        if _FOUND & set(change.columns):
            found |= self._retrieval(query_id, self._given.recipe("mine.retrievable_at"))
        if _VERDICT & set(change.columns):
            found |= self._verdict(change, frozenset())
        return found

    def written(self, query_id: str) -> Causes:
        """The causes of a query's presence, or of what its writer said; none where these are the same."""
        change = self._queries.get(query_id)
        if change is None or (change.kind == "changed" and not set(change.columns) - _FOUND - _VERDICT):
            return NOTHING
        if change.row["source"] == "human":
            return self._by_people(change)
        if change.kind == "changed":
            a, b = change.before or {}, change.after or {}
            stamps = self._given.stamps("writer", a["writer"], b["writer"])
            same_prompt = a["prompt_sha256"] == b["prompt_sha256"]
            return self.writing(b["video_id"], b["variant"], stamps, same_prompt=same_prompt)
        return self.missing_writing(change.row, change.kind == "only in A")

    def missing_writing(self, row: Row, in_a: bool) -> Causes:
        """Why a video's variant gave queries, or a lost call, in one output (A where ``in_a``) and not in the other."""
        if listed := self._videos.listed.get(row["video_id"]):
            return through(listed, "video")
        given = self._given
        if row["variant"] not in given.listed("synthesize", "variants", PAPERS_VARIANTS)[in_a]:
            return given.recipe("synthesize.variants")
        deferred = self._lost[in_a].deferred.get("synthesize", NOTHING)
        return self.writing(row["video_id"], row["variant"], given.engine("writer"), deferred)

    def writing(
        self, video_id: str, variant: str, stamps: Causes, deferred: Causes = NOTHING, same_prompt: bool = False
    ) -> Causes:
        """What decides a writer's reply; a prompt that is the same word for word is no cause, nor is what is in it."""
        given = self._given
        evidence = self._videos.evidence(video_id, MODALITIES if variant in ("all", *WITH_PARTS) else (variant,))
        found = stamps | self._seed | given.engine("writer_parser")
        if not same_prompt:
            found |= (
                given.prompt(task_of(variant))
                | given.recipe("synthesize.queries_per_variant", "synthesize.evidence")
                | evidence
            )
        return given.explain("writing", found, evidence, given.recipe("synthesize.teacher"), deferred)

    def _by_people(self, change: Change) -> Causes:
        if change.kind == "changed" and "video_id" in change.columns:
            places = [row["video_id"] for row in (change.before, change.after) if row]
            listed = frozenset().union(*(self._videos.listed.get(video_id, NOTHING) for video_id in places))
            if listed:
                return through(listed, "video")
        what = {"only in A": "removed", "only in B": "added", "changed": "changed"}[change.kind]
        return frozenset({Cause("input", f"input: query by people {what}")})

    def _retrieval(self, query_id: str, rules: Causes = NOTHING) -> Causes:
        found = self._first_stage | rules | self._asked(query_id)
        return self._given.explain("first stage", found, self._given.recipe("mine.first_stages"))

    def _asked(self, query_id: str) -> Causes:
        """The causes of a query whose text or own video is another; only those by people keep their id then."""
        change = self._queries.get(query_id)
        same = change is None or {"text", "video_id"}.isdisjoint(change.columns)
        return NOTHING if same else through(self.written(query_id), "query")

    def _verdict(self, change: Change, seen: frozenset[str]) -> Causes:
        """Why the first rule that took the query differently did: the earlier of the two stages that decided."""
        given, query_id = self._given, change.key[0]
        a, b = change.before or {}, change.after or {}
        own = self.written(query_id)
        decided = min(_decided(a), _decided(b))
        waiting = {side: row for side, row in (("A", a), ("B", b)) if row["verdict"] == "deferred"}
        if len(waiting) == 1:
            ((side, row),) = waiting.items()
            if _decided(row) == decided:
                return frozenset({Cause("deferred", f"deferred in {side} at {row['stage']} ({row['reason']})")})
        if decided == _FILTER:
            rules = given.recipe("synthesize.filters") | given.own_filters()
            found = own | rules | self._videos.evidence(b["video_id"], MODALITIES)
            return given.explain("text filters", found)
        if decided == _DEDUPLICATE:
            similar = {name for row in (a, b) for name in _SIMILAR.findall(row["detail"])} - seen
            others = frozenset().union(*(self._other(name, seen | {query_id}) for name in similar))
            found = own | given.recipe("synthesize.filters.near_duplicate_jaccard") | others
            return given.explain("near-duplicates", found, through(self._videos.moved, "splits"))
        if decided == _MINE:
            listed = through(self._videos.listed.get(b["video_id"], NOTHING), "video")
            return listed or self._retrieval(query_id, given.recipe("mine.ambiguity", "mine.retrievable_at"))
        found = given.recipe("curate") | through(self.judged(query_id), "judgements")
        return given.explain("curation", found | self._marked(a, b))

    def _other(self, query_id: str, seen: frozenset[str]) -> Causes:
        """Why the query that this one gives way to differs."""
        change = self._queries.get(query_id)
        if change is None:
            return NOTHING
        found = self.written(query_id)
        if change.kind == "changed" and min(_decided(change.before), _decided(change.after)) <= _DEDUPLICATE:
            found |= self._verdict(change, seen)
        return through(found, "another query")

    def judged(self, query_id: str) -> Causes:
        """The causes of all that differs in a query's judgements."""
        return self._judged.get(query_id, NOTHING)

    def judgements(self, changes: Sequence[Change]) -> list[Causes]:
        """The causes of each change; all changes of a query's judgements must come in one call."""
        own = [self._judgement(change) for change in changes]
        together: dict[str, Causes] = defaultdict(frozenset)
        for change, causes in zip(changes, own, strict=True):
            together[change.key[0]] |= causes
        self._judged.update(together)
        return [
            causes | self._curation(change, causes, together[change.key[0]])
            for change, causes in zip(changes, own, strict=True)
        ]

    def _judgement(self, change: Change) -> Causes:
        """The causes of everything but what curation made of the pair."""
        query_id, video_id = change.key
        if change.kind != "changed":
            return self.missing_pair(query_id, video_id, change.kind == "only in A")
        a, b = change.before or {}, change.after or {}
        columns, found = set(change.columns), NOTHING
        if columns - _PLACED - _CURATED - {"stratum", "panel"}:
            stamps = self._given.stamps("judge", a["teacher"], b["teacher"])
            same_prompt = a["prompt_sha256"] == b["prompt_sha256"]
            found |= self.judging(query_id, video_id, stamps, same_prompt=same_prompt)
        if "panel" in columns:
            asked = self._judge_asked | self._videos.evidence(video_id, self._judge_sees) | self._asked(query_id)
            found |= self._given.explain("panel", self._given.panel(), asked, found)
        if columns & _PLACED:
            found |= self._retrieval(query_id)
        return found | self._marked(a, b)

    def _marked(self, a: Row, b: Row) -> Causes:
        """The marks of people, where they took a row out of one output or of both."""
        return self._given.labels if any(str(row["reason"]).startswith("marked ") for row in (a, b)) else NOTHING

    def missing_pair(self, query_id: str, video_id: str, in_a: bool) -> Causes:
        """Why a pair is judged, or lost, in one output (A where ``in_a``) and not in the other."""
        given, other = self._given, self._lost[in_a]
        query = self._queries.get(query_id)
        if query is not None:
            if query.kind != "changed":
                return through(self.written(query_id), "query")
            if {*query.columns} & _VERDICT and min(_decided(query.before), _decided(query.after)) <= _MINE:
                return through(self._verdict(query, frozenset()), "query")
        if any((query_id, video_id) in lost.pairs for lost in self._lost):
            return self.judging(query_id, video_id, given.engine("judge"), other.deferred.get("judge", NOTHING))
        cut = ("mine.candidates", "mine.margin", "mine.retrievable_at", "emit.validation_fraction", "seed")
        found = self._first_stage | given.recipe(*cut) | through(self._videos.moved, "splits")
        options = given.recipe("mine.first_stages")
        return given.explain("candidates", found, options, other.deferred.get("judge", NOTHING))

    def judging(
        self, query_id: str, video_id: str, stamps: Causes, deferred: Causes = NOTHING, same_prompt: bool = False
    ) -> Causes:
        """What decides a judge's reply; see ``writing``."""
        given = self._given
        evidence = self._videos.evidence(video_id, self._judge_sees)
        found = stamps | self._seed | given.engine("judge_parser")
        if not same_prompt:
            found |= self._judge_asked | evidence | self._asked(query_id)
        ladder = given.recipe("judge.teacher", "judge.no_rationale_below")
        return given.explain("judging", found, evidence, ladder, deferred)

    def _curation(self, change: Change, own: Causes, together: Causes) -> Causes:
        """The causes of stratum, kept and reason: the rules, the pair's own margin, and the query's other pairs."""
        columns, given, found = set(change.columns), self._given, NOTHING
        if "stratum" in columns:
            found |= given.explain("stratum", own | given.recipe(*_STRATA) | given.thresholds)
        if columns & _CURATED:
            query = self._queries.get(change.key[0])
            others = own | through(together - own, "the query's other judgements")
            if query and query.kind == "changed":
                others |= through(self._marked(query.before or {}, query.after or {}), "query")
            found |= given.explain("curation", others | given.recipe("curate") | given.thresholds)
        return found


def _decided(row: Row | None) -> int:
    """Which stage had the last word on a query, in the order of the pipeline."""
    if row is None or row["verdict"] == "kept":
        return _KEPT
    if row["stage"] == "synthesize":
        return _DEDUPLICATE if row["reason"] == "near duplicate" else _FILTER
    return _MINE if row["stage"] == "mine" else _CURATE
