"""Ranking groups: a query with its candidates, as a notebook shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:  # heavy, and imported where used
    from pipeline.outputs.tables import Tables

_TONES = {
    "positive": "#1a7f37",
    "confirmed_positive": "#1a7f37",
    "hard_negative": "#9a6700",
    "trusted_negative": "#57606a",
}


@dataclass(frozen=True)
class Candidate:
    """A candidate of a group: ``label`` is 1 or 0, ``margin`` the judge's log p(yes) - log p(no), or None."""

    video_id: str
    label: int
    stratum: str
    margin: float | None
    p_yes: float | None
    row: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Group:
    """A query with its candidates: its positives, one to three negatives."""

    query_id: str
    query: str
    row: Mapping[str, Any] = field(repr=False)
    candidates: tuple[Candidate, ...]
    _tables: Tables = field(repr=False, compare=False)

    def video(self, video_id: str) -> dict[str, Any]:
        """The row of a candidate in the videos table: its evidence, its frames as JPEG.

        Raises:
            KeyError: the output has no such video.
        """
        found = self._tables.matching("videos", "video_id", video_id)
        if not found:
            raise KeyError(video_id)
        return found[0]

    def _repr_html_(self) -> str:
        return f"<div><p><b>{escape(self.query)}</b> <code>{self.query_id}</code></p>{''.join(self._cards())}</div>"

    def _cards(self) -> Iterator[str]:
        from pipeline.outputs.report.pictures import strip

        for candidate in self.candidates:
            video = self.video(candidate.video_id)
            pictures = "".join(f"<img src='{url}' style='height:90px;margin:2px' alt=''>" for url in strip(video))
            margin = "no margin" if candidate.margin is None else f"margin {candidate.margin:+.2f}"
            said = f"{candidate.stratum.replace('_', ' ')}, {margin}"
            tone = _TONES.get(candidate.stratum, "#57606a")
            about = escape(video["caption"] or video["metadata"]["title"] or video["uri"])
            yield (
                f"<div style='border-left:4px solid {tone};padding-left:8px;margin:8px 0'><b>{said}</b> "
                f"<code>{escape(candidate.video_id)}</code><div>{pictures}</div><div>{about}</div></div>"
            )


class Groups(Sequence[Group]):
    """Groups of an output, read when they are asked for; an index from the front reads no further than it must."""

    def __init__(self, tables: Tables, stratum: str | None = None, split: str | None = None) -> None:
        self._tables, self._stratum, self._split = tables, stratum, split

    def __iter__(self) -> Iterator[Group]:
        for row in self._tables.rows("ranking", part=self._split):
            candidates = tuple(_candidate(each) for each in row["candidates"])
            if self._stratum is None or self._stratum in (candidate.stratum for candidate in candidates):
                yield Group(row["query_id"], row["query"], row, candidates, self._tables)

    def __len__(self) -> int:
        if self._stratum is None:
            return self._tables.count("ranking", self._split)
        return sum(1 for _ in self)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        if isinstance(index, slice):
            return list(self)[index]
        if index < 0:
            return list(self)[index]
        found = next(islice(self, index, None), None)
        if found is None:
            raise IndexError(f"there are {len(self)} groups")
        return found

    def _repr_html_(self) -> str:
        shown = "".join(group._repr_html_() for group in islice(self, 3))
        return f"<p>{len(self):,} groups, of which the first:</p>{shown}"


def _candidate(row: Mapping[str, Any]) -> Candidate:
    return Candidate(row["video_id"], row["label"], row["stratum"], row["delta"], row["p_yes"], row)
