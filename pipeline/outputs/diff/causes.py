"""Why rows differ between two outputs: attributed from what decides a row and from the rows it was made of.

Nothing is guessed. Whatever decides a value is compared: the stamp of its engine, the hash of its prompt, recipe
values, and the rows that went into it. All of these that differ are its causes. Recipe values that rarely decide
anything (limits, how a server is reached), a budget that ran out and another version of hardquery are named only where
nothing else differs; where nothing differs at all, that is said: the same question had two answers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pipeline.outputs.diff.compare import Change
from pipeline.outputs.diff.given import NOTHING, Cause, Causes, Given, through
from pipeline.outputs.diff.lost import Lost
from pipeline.outputs.diff.query_causes import QueryCauses
from pipeline.outputs.diff.video_causes import VideoCauses
from pipeline.outputs.tables import Row
from schemas.losses import OF_NEGATIVES
from schemas.video import MODALITIES

# Besides the key, what attribution needs of a row that differs.
DECIDING: Mapping[str, tuple[str, ...]] = {
    "videos": ("uri", "media", "metadata", "engines", "warnings"),
    "queries": ("video_id", "source", "variant", "writer", "prompt_sha256", "verdict", "stage", "reason", "detail"),
    "judgements": ("teacher", "prompt_sha256", "reason"),
    "ranking": ("candidates",),
    "ranking_by_video": ("video_id",),
    "necessity": (),
    "perception": ("captioner",),
    "rejections": ("detail",),
    "failures": ("message",),
}
_VARIANT = re.compile(r"variant (\w+):")


class Attribution:
    """The causes of every change of every table, given the changes of videos and of queries."""

    def __init__(
        self, given: Given, lost: tuple[Lost, Lost], videos: Iterable[Change], queries: Iterable[Change]
    ) -> None:
        self._given = given
        self._videos = VideoCauses(given, lost, videos)
        self._queries = QueryCauses(given, lost, self._videos, queries)
        self._deferred = NOTHING.union(*(one.deferred.get("judge", NOTHING) for one in lost))

    def causes(self, table: str, changes: Sequence[Change]) -> list[Causes]:
        """The causes of each change; judgements must come before what was made from them, a query's all together."""
        if table == "judgements":
            return self._queries.judgements(changes)
        of = {
            "videos": self._videos.of,
            "queries": lambda change: self._queries.query(change.key[0]),
            "ranking": self._ranking,
            "ranking_by_video": self._by_video,
            "necessity": lambda change: self._necessity(*change.key),
            "perception": self._perception,
            "rejections": self._rejection,
            "failures": self._failure,
        }[table]
        return [self._of_step(change) or of(change) for change in changes]

    def _of_step(self, change: Change) -> Causes:
        """Of what was lost at a step that is asked about groups; none of anything else."""
        row, step = change.row, change.row.get("step")
        if step in OF_NEGATIVES:
            return self._negatives(row["query_id"])
        return self._necessity(row["query_id"], row["video_id"]) if step == "necessity" else NOTHING

    def _ranking(self, change: Change) -> Causes:
        query_id, given, columns = change.key[0], self._given, set(change.columns)
        if change.kind != "changed":
            return given.explain("query", through(self._queries.query(query_id), "query"))
        found = NOTHING
        if "candidates" in columns:
            judged = through(self._queries.judged(query_id), "judgements")
            found |= given.explain("candidates", judged | given.recipe("curate"))
        if "split" in columns:
            positive = change.row["candidates"][0]["video_id"]
            found |= given.explain("split", through(self._videos.columns(positive, "split"), "video"))
        if columns - {"candidates", "split"}:
            found |= given.explain("query", through(self._queries.written(query_id), "query"))
        return found

    def _by_video(self, change: Change) -> Causes:
        return self._negatives(change.key[0])

    def _negatives(self, query_id: str) -> Causes:
        """Of a query's negatives: the query, how it is judged, who writes and verifies them, or which are kept."""
        given = self._given
        own = through(self._queries.query(query_id) | self._queries.judged(query_id), "query")
        asked = given.engine("negatives") | given.engine("verifier")
        asked |= given.prompt("negative_queries") | given.prompt("judge_reworded") | given.prompt("judge")
        rules = given.recipe("synthesize.negative_queries", "synthesize.filters")
        return given.explain("negative queries", own | asked | rules | given.labels)

    def _necessity(self, query_id: str, video_id: str) -> Causes:
        """Of what a label rests on: the query, how it is judged, and of which positives its judge is asked again."""
        given = self._given
        own = through(self._queries.query(query_id) | self._queries.judged(query_id), "query")
        asked = given.engine("judge") | given.prompt("judge") | self._videos.evidence(video_id, MODALITIES)
        rules = given.recipe("judge.necessity", "judge.modalities", "judge.evidence", "curate", "seed")
        return given.explain("necessity", own | asked | rules, given.recipe("judge.teacher"), self._deferred)

    def _perception(self, change: Change) -> Causes:
        video_id = change.key[0]
        if listed := self._videos.listed.get(video_id):
            return through(listed, "video")
        if change.kind != "changed":
            missing = self._videos.columns(video_id, "caption", "frames")  # a video without either has no such row
            return self._given.explain("caption", through(missing, "video"))
        columns = tuple(name for name in change.columns if name != "captioner")
        found = through(self._videos.columns(video_id, *columns), "video")
        a, b = (row and row["captioner"] for row in (change.before, change.after))
        return self._given.explain("caption", found | self._given.stamps("caption", a, b))

    def _rejection(self, change: Change) -> Causes:
        row, in_a = change.row, change.kind != "only in B"
        if row["stage"] == "judge" or (row["stage"], row["step"]) == ("mine", "guard"):
            return self._queries.missing_pair(row["query_id"], row["video_id"], in_a)
        if row["query_id"]:
            return self._given.explain("rejection", through(self._queries.query(row["query_id"]), "query"))
        if row["step"] == "deduplicate":
            came = {"only in A": "removed", "only in B": "added"}.get(change.kind, "changed")
            return frozenset({Cause("input", f"input: copy of a video {came}")})
        if row["step"] == "write":
            return self._lost_call(row, row["detail"], in_a)
        listed = self._videos.listed.get(row["video_id"], NOTHING)
        pictures = self._videos.columns(row["video_id"], "media", "frames", "frame_times_s")
        return self._given.explain("rejection", through(listed or pictures, "video"))

    def _failure(self, change: Change) -> Causes:
        row, in_a = change.row, change.kind != "only in B"
        if row["stage"] == "judge":
            return self._queries.missing_pair(row["query_id"], row["video_id"], in_a)
        if row["stage"] == "synthesize":
            return self._lost_call(row, row["message"], in_a)
        given = self._given
        if row["stage"] == "mine":
            own = through(self._videos.of_video(row["video_id"]), "video")
            return given.explain("embedding", own | given.first_stages(), given.recipe("mine.first_stages"))
        if row["uri"] in self._videos.uris:
            return through(self._videos.listed[self._videos.uris[row["uri"]]], "video")
        if change.kind == "changed":
            found = given.engine("decode"), given.recipe("extract.frames"), given.recipe("extract.limits")
            return given.explain("decoding", *found)
        return frozenset({Cause("input", f"input: video {'removed' if in_a else 'added'}")})

    def _lost_call(self, row: Row, said: str, in_a: bool) -> Causes:
        """Why a call of the writer gave no queries in one output only."""
        found = _VARIANT.match(said)
        return self._queries.missing_writing({**row, "variant": found[1] if found else "all"}, in_a)
