"""Why the rows of the videos table differ, column by column, and what that means for whatever was made from them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pipeline.outputs.diff.compare import Change
from pipeline.outputs.diff.given import NOTHING, Cause, Causes, Given, through
from pipeline.outputs.diff.lost import Lost
from pipeline.outputs.tables import Row
from schemas.video import MODALITIES, Modality

_EMPTY: dict[str, Causes] = {}


def fields_read(recipe: Mapping[str, Any]) -> set[Modality]:
    """The fields of the evidence that some first stage of a recipe reads."""
    weights = [stage.get("fields") or {} for stage in recipe["mine"]["first_stages"].values()]
    return {name for name in MODALITIES if any(each.get(name, 1) for each in weights)}


class VideoCauses:
    """Attributes all changes of the videos table, and remembers them by video for the tables that follow."""

    def __init__(self, given: Given, lost: tuple[Lost, Lost], changes: Iterable[Change]) -> None:
        self._given = given
        self._lost = lost
        self._by_video: dict[str, dict[str, Causes]] = {}
        self._shared: dict[frozenset[tuple[str, Causes]], dict[str, Causes]] = {}  # most videos change alike
        self.listed: dict[str, Causes] = {}  # videos of one output only
        self.uris: dict[str, str] = {}  # their ids by address, in A and in B
        self.corpus = NOTHING  # causes of all that the first stage reads
        self.moved = NOTHING  # causes of all that is in another split or group
        changes = list(changes)
        inputs = {"media", "metadata"}
        self._others = any(change.kind != "changed" or not inputs.isdisjoint(change.columns) for change in changes)
        alone = [change for change in changes if change.kind != "changed"]
        before = {change.row["uri"]: change for change in alone if change.kind == "only in A"}
        after = {change.row["uri"]: change for change in alone if change.kind == "only in B"}
        for change in alone:
            video_id, uri = change.key[0], change.row["uri"]
            self.uris[uri] = video_id
            self.listed[video_id] = self._listing(change, before.get(uri), after.get(uri))
            self._remember(video_id, dict.fromkeys(MODALITIES, self.listed[video_id]))
        for change in changes:
            if change.kind == "changed":
                self._remember(change.key[0], {name: self._column(name, change) for name in change.columns})
        read = {name for manifest in (given.a, given.b) for name in fields_read(manifest.recipe)}
        for columns in self._shared.values():
            self.corpus |= frozenset().union(*(columns.get(modality, NOTHING) for modality in read))
            self.moved |= frozenset().union(*(columns.get(name, NOTHING) for name in ("split", "group")))

    def of(self, change: Change) -> Causes:
        """The causes of one row: those of all its columns."""
        video_id = change.key[0]
        return self.listed.get(video_id) or frozenset().union(*self._by_video[video_id].values())

    def of_video(self, video_id: str) -> Causes:
        """All causes of a video, none where it is the same in both."""
        return self.listed.get(video_id) or NOTHING.union(*self._by_video.get(video_id, _EMPTY).values())

    def columns(self, video_id: str, *names: str) -> Causes:
        """The causes of some columns of a video, as far as these differ."""
        columns = self._by_video.get(video_id, _EMPTY)
        return frozenset().union(*(columns.get(name, NOTHING) for name in names))

    def evidence(self, video_id: str, modalities: Collection[str]) -> Causes:
        """The causes of a video's evidence, for what was made from these modalities of it."""
        return through(self.columns(video_id, *modalities), "evidence")

    def _remember(self, video_id: str, columns: dict[str, Causes]) -> None:
        self._by_video[video_id] = self._shared.setdefault(frozenset(columns.items()), columns)

    def _listing(self, change: Change, before: Change | None, after: Change | None) -> Causes:
        """Why a video is in one output only; ``before`` and ``after`` are what A and B have at its address."""
        if before and after:
            same = before.row["media"]["sha256"] == after.row["media"]["sha256"]
            return frozenset({Cause("input", f"input: {'video_id' if same else 'media'} changed")})
        other = self._lost[change.kind == "only in A"]
        if change.row["uri"] in other.failed_uris:
            return self._given.explain("decoding, which failed in one", self._given.engine("decode"), *self._rarely)
        if change.key[0] in other.copies:
            return frozenset({Cause("input", "input: copy of a video added or removed")})
        if deferred := other.deferred.get("extract"):  # whose addresses no table holds
            return frozenset(Cause(cause.kind, f"{cause.text}, or not in its input") for cause in deferred)
        came = "removed" if change.kind == "only in A" else "added"
        return frozenset({Cause("input", f"input: video {came}")})

    @property
    def _rarely(self) -> tuple[Causes, ...]:
        given = self._given
        return given.recipe("extract.frames"), given.recipe("extract.limits")

    def _column(self, name: str, change: Change) -> Causes:
        given, a, b = self._given, change.before or {}, change.after or {}
        match name:
            case "uri":
                return frozenset({Cause("input", "input: address changed")})
            case "split" | "group":
                return self._place(name, change)
            case "engines":
                parts = {use["part"] for row in (a, b) for use in row["engines"]}
                found = frozenset().union(*(self._stamps(part, a, b) for part in parts))
                return given.explain(name, found, self._parts(_different(a, b, name), a, b))
            case "warnings":
                return given.explain(name, self._parts(_different(a, b, name), a, b))
            case "media" | "metadata" | "asr" | "ocr" | "caption":
                return self._part(name, a, b)
            case _:
                found = self._pictures(a, b) | given.recipe("emit.frames")
                return given.explain(name, found, given.recipe("extract.limits"))

    def _place(self, name: str, change: Change) -> Causes:
        near = self._near(change.before or {}, change.after or {})
        if name == "group":
            return self._given.explain("near-duplicates", near)
        return self._given.explain("split", self._split(change), through(near, "near-duplicates"))

    def _split(self, change: Change) -> Causes:
        """What moves a video to another split, but for near-duplicates of others of its event."""
        moved = NOTHING
        if "metadata" in change.columns and _event(change.before) != _event(change.after):
            moved = frozenset({Cause("input", "input: metadata changed")})
        if "group" in change.columns:
            moved |= through(self._near(change.before or {}, change.after or {}), "near-duplicates")
        return self._given.recipe("emit.validation_fraction", "seed") | moved

    def _near(self, a: Row, b: Row) -> Causes:
        """What gives a video other near-duplicates, or these another event."""
        found = self._given.recipe("group") | self._pictures(a, b)
        if self._others:
            found |= {Cause("input", "input: a video was added, removed or changed")}
        return found

    def _parts(self, parts: Iterable[str], a: Row, b: Row) -> Causes:
        return frozenset().union(*(self._part(part, a, b) for part in parts))

    def _part(self, part: str, a: Row, b: Row) -> Causes:
        """Causes of one part of the evidence, of its warnings or of its engine's absence."""
        if part == "metadata":
            return frozenset({Cause("input", "input: metadata changed")})
        given = self._given
        found = self._media(a, b) | self._stamps("decode", a, b)
        if part in ("ocr", "caption"):
            found |= self._pictures(a, b)
        if part in MODALITIES:
            found |= self._stamps(part, a, b)
        section = given.recipe(f"extract.{part}")
        return given.explain(part, found, section, given.recipe("extract.limits"), self._deferred)

    def _pictures(self, a: Row, b: Row) -> Causes:
        return self._media(a, b) | self._stamps("decode", a, b) | self._given.recipe("extract.frames")

    def _media(self, a: Row, b: Row) -> Causes:
        if a["media"]["sha256"] == b["media"]["sha256"]:
            return NOTHING
        return frozenset({Cause("input", "input: media changed")})

    def _stamps(self, part: str, a: Row, b: Row) -> Causes:
        """How the engines of a part differ where both rows have one: an engine that failed leaves no stamp."""
        mine, other = (next((use["engine"] for use in row["engines"] if use["part"] == part), None) for row in (a, b))
        if mine and other:
            return self._given.stamps(part, mine, other)
        return self._given.engine(part) if mine or other else NOTHING

    @property
    def _deferred(self) -> Causes:
        return frozenset().union(*(lost.deferred.get("extract", NOTHING) for lost in self._lost))


def _event(row: Row | None) -> str:
    event: str = row["metadata"]["event"] if row else ""
    return event


def _different(a: Row, b: Row, column: str) -> set[str]:
    """The parts of the evidence whose entries in a list column differ."""
    return {entry["part"] for row, other in ((a, b), (b, a)) for entry in row[column] if entry not in other[column]}
