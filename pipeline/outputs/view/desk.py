"""What the page asks and is told, as plain values: lists, one query with its pairs, one video, and marks."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.manifest import Manifest, read_manifest
from pipeline.outputs.marks import ANSWERS_FILE, LABELS, add_mark, read_marks
from pipeline.outputs.tables import Row
from pipeline.outputs.view.files import Source, source_of
from pipeline.outputs.view.index import Index, Numbers, scan_shards
from pipeline.outputs.view.lists import BY_VIDEO, LISTS, SORTS
from pipeline.outputs.view.lookup import Lookup
from schemas.example import POSITIVES, NegativeQuery
from schemas.people.mark import ANSWERS, WRONG, Mark, Verdict
from transforms.storage.files import join

PAGE = 40  # rows
_OF_VIDEOS = ("split", "language")  # facets of a row's own video
_VIDEO = ["uri", "split", "group", "metadata", "media", "caption", "asr", "ocr", "warnings", "frame_times_s"]


class NoSuchThing(ValueError):
    """What was asked for is not in the output; one line."""


@dataclass
class Desk:
    """One output, open for looking at and marking; threads may share it.

    With ``asked`` it is open for blind labelling of these pairs, query id and video id, and for nothing else.
    """

    output: str
    manifest: Manifest
    lookup: Lookup
    asked: Sequence[tuple[str, str]] | None = None
    _indexes: dict[str, Index] = field(default_factory=dict)
    _orders: dict[tuple[Any, ...], Numbers] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @classmethod
    def open(cls, output: str, asked: Sequence[tuple[str, str]] | None = None) -> Desk:
        """Raises NotAnOutput where ``output`` is not finished."""
        manifest = read_manifest(output)
        return cls(output, manifest, Lookup(manifest.tables(output)), asked)

    @property
    def labels(self) -> str:
        """The file that marks are added to."""
        return join(self.output, LABELS)

    @property
    def answers(self) -> str:
        """The file that answers to blind questions are added to."""
        return join(self.output, ANSWERS_FILE)

    def about(self) -> dict[str, Any]:
        """What the page says of the output as a whole."""
        tables = self.lookup.tables
        counts = {name: tables.count(listed.table) for name, listed in LISTS.items()}
        counts.pop("dropped")  # of the rows of queries, those that are not kept; known when they are counted
        if not tables.shards(LISTS[BY_VIDEO].table):
            counts.pop(BY_VIDEO)
        return {
            "name": os.path.basename(os.path.abspath(self.output)),
            "recipe": self.manifest.recipe["name"],
            "videos": tables.count("videos"),
            "counts": counts,
            "marks": len(read_marks(self.labels)),
            "labels": LABELS,
            "sorts": SORTS,
            "blind": self.asked is not None,
        }

    def pairs(self) -> list[dict[str, str]]:
        """The pairs that people are asked about, with what they answered so far, "" where nothing."""
        said = read_marks(self.answers)
        found = [(about, said.get(about)) for about in self.asked or ()]
        return [
            {"query_id": about[0], "video_id": about[1], "answer": mark.verdict if mark else ""}
            for about, mark in found
        ]

    def question(self, query_id: str) -> dict[str, Any]:
        """Of a query only its words."""
        query = self.lookup.row("queries", query_id, ["text"])
        if query is None:
            raise NoSuchThing(f"there is no query {query_id!r}; the output has changed since the pairs were drawn")
        return query

    def answer(self, query_id: str, video_id: str, verdict: str, note: str) -> dict[str, str]:
        """Add an answer to a pair that was asked about.

        Raises:
            NoSuchThing: it was not.
            ValueError: the answer is not one of ANSWERS.
        """
        if (query_id, video_id) not in (self.asked or ()):
            raise NoSuchThing(f"nobody asked about {query_id!r} and {video_id!r}")
        found = next((each for each in ANSWERS if each == verdict), None)
        if found is None:
            raise ValueError(f"an answer is one of {', '.join(ANSWERS)}, got {verdict!r}")
        with self._lock:
            add_mark(self.answers, Mark(query_id, video_id, found, note, _now()))
        return {"answer": found}

    def list(
        self, of: str, filters: Mapping[str, str], sort: str = "", search: str = "", first: int = 0, count: int = PAGE
    ) -> dict[str, Any]:
        """``count`` rows of a list from the ``first`` on, how many there are of them, and of all rows."""
        index = self.index(of)
        with self._lock:
            key = (of, tuple(sorted(filters.items())), sort, search)
            if key not in self._orders:
                among = index.searched(search, self._videos_named(search)) if search else None
                while len(self._orders) >= 8:
                    self._orders.pop(next(iter(self._orders)))
                self._orders[key] = index.chosen(filters, sort, among)
            found = self._orders[key]
        rows = index.read(found[first : first + count].tolist())
        return {"rows": self._shown(of, rows), "found": len(found), "of": int(index.kept.sum())}

    def index(self, of: str) -> Index:
        """The index of a list, read when it is first asked for."""
        if of not in LISTS:
            raise NoSuchThing(f"there is no list {of!r}")
        with self._lock:
            if of not in self._indexes:
                self._indexes[of] = Index.of(self.lookup.tables, LISTS[of])
            return self._indexes[of]

    def facets(self, of: str) -> dict[str, dict[str, int]]:
        """The facets of a list, with split and language of the rows' own videos among them; rows by value."""
        index = self.index(of)
        with self._lock:
            index.read_facets()
            if _OF_VIDEOS[0] not in index.codes:
                index.add_facets(self._names, _OF_VIDEOS)
        return index.counts()

    def query(self, query_id: str) -> dict[str, Any]:
        """A query with everything that was judged of it: its own video first, then what is kept, then by rank."""
        query = self.lookup.row("queries", query_id)
        if query is None:
            raise NoSuchThing(f"there is no query {query_id!r}")
        pairs = self.lookup.rows("judgements", query_id)
        if not any(pair["video_id"] == query["video_id"] for pair in pairs):
            pairs.append({"video_id": query["video_id"], "is_positive": True, "stratum": "positive", "kept": False})
        pairs.sort(key=lambda pair: (not pair["is_positive"], not pair["kept"], pair.get("rank") or 1 << 30))
        marks = read_marks(self.labels)
        shown = [{**pair, **self._said(query_id, pair["video_id"], marks)} for pair in pairs]
        return {
            **query,
            "split": self._video(query["video_id"])["split"],
            **self._said(query_id, "", marks),
            "pairs": shown,
            "look_alikes": self._look_alikes(query_id, query["video_id"], marks),
        }

    def _look_alikes(self, query_id: str, video_id: str, marks: Mapping[tuple[str, str], Mark]) -> Sequence[Row]:
        """The negative queries of a query, which look like it and which its video does not answer, with their marks.

        Then, by their ids alone, those of its video that are marked and therefore stand no longer in this output.
        """
        group = self.lookup.row(LISTS[BY_VIDEO].table, query_id, ["candidates"])
        found = [candidate for candidate in group["candidates"] if not candidate["label"]] if group else []
        here = {candidate["query_id"] for candidate in found}
        ids = [one for one, of in marks if of == video_id and one not in here and NegativeQuery.is_id(one)]
        found += [{"query_id": one} for one in ids if self.lookup.row("queries", one, []) is None]
        return [{**one, **self._said(one["query_id"], video_id, marks)} for one in found]

    def video(self, video_id: str) -> dict[str, Any]:
        """The evidence of a video, when its frames were taken, and whether its file can be played."""
        video = self._video(video_id)
        return {**video, "file": os.path.basename(video["uri"]), "plays": source_of(video) is not None}

    def source(self, video_id: str) -> Source | None:
        """The file of a video of this output, where it is at hand."""
        return source_of(self._video(video_id))

    def frame(self, video_id: str, number: int) -> bytes:
        """One frame of a video, JPEG."""
        row = self.lookup.row("videos", video_id, ["frames"])
        frames = (row or {}).get("frames") or []
        if not 0 <= number < len(frames):
            raise NoSuchThing(f"video {video_id!r} has no frame {number}")
        jpeg: bytes = frames[number]["bytes"]
        return jpeg

    def mark(self, query_id: str, video_id: str, verdict: str, note: str, looks_like: str = "") -> dict[str, Any]:
        """Add a mark of what is wrong, or take one back; returns what is now said of the pair or query.

        ``looks_like`` is the query that a negative query looks like, where it is a negative query that is marked.

        Raises:
            NoSuchThing: there is no such pair.
            ValueError: it is none of what can be wrong with it.
        """
        fits = self._wrong_at_most(looks_like or query_id, video_id, query_id if looks_like else "")
        if verdict not in ("", fits):
            raise ValueError(f"this can be marked as {fits!r} alone, got {verdict!r} (known: {', '.join(WRONG)})")
        with self._lock:
            add_mark(self.labels, Mark(query_id, video_id, verdict if verdict == fits else "", note, _now()))
        return self._said(query_id, video_id, read_marks(self.labels))

    def _wrong_at_most(self, query_id: str, video_id: str, look_alike: str) -> Verdict:
        """What can be wrong with a query, with a pair of it, or with a query that looks like it."""
        query = self.query(query_id)
        if look_alike:
            known = {other["query_id"] for other in query["look_alikes"]}
            if look_alike not in known or video_id != query["video_id"]:
                raise NoSuchThing(f"query {query_id!r} has no look-alike {look_alike!r} of video {video_id!r}")
            return "false negative"
        pair = next((pair for pair in query["pairs"] if pair["video_id"] == video_id), None)
        if pair is None and video_id:
            raise NoSuchThing(f"video {video_id!r} was not judged for query {query_id!r}")
        if pair is None:
            return "bad query"
        return "wrong positive" if pair["stratum"] in POSITIVES else "false negative"

    def _said(self, query_id: str, video_id: str, marks: Mapping[tuple[str, str], Mark]) -> dict[str, str]:
        mark = marks.get((query_id, video_id))
        return {"mark": mark.verdict if mark else "", "note": mark.note if mark else ""}

    def _shown(self, of: str, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows of a list as the page shows them: with their files' names, the queries' texts, and what is marked."""
        marks = read_marks(self.labels)
        if of == "groups":
            for row in rows:
                row["video_id"] = row["candidates"][0]["video_id"]
        if of in ("pairs", "rejections", "failures"):
            queries = self.lookup.by_key("queries", (row["query_id"] for row in rows if row["query_id"]), ["text"])
            for row in rows:
                if row["query_id"]:
                    row["text"] = queries.get(row["query_id"], {}).get("text", "")
        videos = self.lookup.by_key("videos", (row["video_id"] for row in rows if row["video_id"]), ["uri"])
        for row in rows:
            row["file"] = os.path.basename(videos.get(row["video_id"], row).get("uri") or "")
        return [self._row(of, row, marks) for row in rows]

    def _row(self, of: str, row: Row, marks: Mapping[tuple[str, str], Mark]) -> Row:
        """A row with what of its candidates is shown, and what is marked of it."""
        query_id = row["query_id"]
        asked = {query_id}
        if of == "groups":
            candidates = row.pop("candidates")
            row["deltas"] = [candidate["delta"] for candidate in candidates]
            row["strata"] = [candidate["stratum"] for candidate in candidates]
        if of == BY_VIDEO:
            true, *others = row.pop("candidates")
            row["query"], row["others"] = true["query"], len(others)
            row["edits"] = list(dict.fromkeys(other["edit"] for other in others))
            row["deltas"] = [true["delta"], *(other["delta"] for other in others)]
            asked |= {other["query_id"] for other in others}
        about = {row["video_id"]} if of == "pairs" else None
        said = {m.verdict for (q, v), m in marks.items() if q in asked and (about is None or v in about)}
        return {**row, "marks": sorted(said)}

    def _video(self, video_id: str) -> Row:
        video = self.lookup.row("videos", video_id, _VIDEO)
        if video is None:
            raise NoSuchThing(f"there is no video {video_id!r}")
        return video

    @cached_property
    def _names(self) -> pa.Table:
        """Id, address, title, split and language of every video; for searches and facets by video alone."""
        columns = {"video_id": "video_id", "uri": "uri", "title": "metadata.title", "split": "split"}
        columns["language"] = "metadata.language"
        parts = [
            pa.table({name: rows[column] for name, column in columns.items()})
            for rows in scan_shards(self.lookup.tables, "videos", list(columns.values()))
        ]
        empty = pa.table({name: pa.array([], pa.string()) for name in columns})
        return pa.concat_tables(parts).combine_chunks() if parts else empty

    def _videos_named(self, text: str) -> pa.Array:
        """The videos whose file, title or id holds ``text``."""
        names = self._names
        masks = (pc.fill_null(pc.match_substring(names[c], text, ignore_case=True), False) for c in ("uri", "title"))
        by_name = np.logical_or.reduce([np.asarray(mask) for mask in masks]) | np.asarray(
            pc.equal(names["video_id"], text)
        )
        return names["video_id"].combine_chunks().filter(pa.array(by_name))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
