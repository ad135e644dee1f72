"""The pairs that an audit asks about: judged ones, those left out, and queries with a video of something else."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.outputs.tables import Row, Tables, VideoIndex, evidence_of
from schemas.check import read_plain
from schemas.fingerprint import fingerprint
from schemas.query import QueryText
from schemas.video import MediaFacts, Modality, Video
from transforms.judge.judge_pairs import Pair

_VIDEO_COLUMNS = ("uri", "media", "caption", "asr", "ocr", "metadata")


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair that the run judged, with its label and margin (nats, None where it has none)."""

    pair: Pair
    label: str
    delta: float | None


def judged_sample(tables: Tables, videos: VideoIndex, n: int) -> list[Judged]:
    """``n`` judged pairs, chosen by the hash of their ids: the same ones whatever the order of the shards."""
    rows = _least(tables.rows("judgements", ["query_id", "video_id", "is_positive", "label", "delta"]), n)
    texts = _texts(tables, {row["query_id"] for row in rows})
    found = []
    for row in rows:
        pair = _pair(row["query_id"], texts[row["query_id"]], videos.get(row["video_id"]), row["is_positive"])
        if pair is not None:
            found.append(Judged(pair, row["label"], row["delta"]))
    return found


def left_out_sample(tables: Tables, videos: VideoIndex, shown: Sequence[Modality], n: int) -> list[Pair]:
    """``n`` pairs that were left out before the judge, chosen by hash; of those whose video it could be shown."""
    columns = ["stage", "step", "query_id", "video_id"]
    left_out = (row for row in tables.rows("rejections", columns) if (row["stage"], row["step"]) == ("mine", "guard"))
    rows = _least(left_out, n)
    texts = _texts(tables, {row["query_id"] for row in rows})
    pairs = (_pair(row["query_id"], texts[row["query_id"]], videos.get(row["video_id"]), False) for row in rows)
    return [pair for pair in pairs if pair and not set(shown).isdisjoint(pair.video.evidence.present)]


def unrelated_sample(
    tables: Tables, videos: VideoIndex, relevant: Mapping[str, Mapping[str, int]], shown: Sequence[Modality], n: int
) -> list[Pair]:
    """``n`` judged queries, each with a video chosen by hash that is not known to answer it.

    A video of a relevant video's event or a copy of one is passed over, as is one without any of the modalities that
    the judge sees.
    """
    columns = ["query_id", "video_id", "is_positive"]
    positives = [row for row in tables.rows("judgements", columns) if row["is_positive"]]
    queries = _least(positives, n)
    texts = _texts(tables, {row["query_id"] for row in queries})
    kin = {
        row["video_id"]: {("group", row["group"]), ("event", row["metadata"]["event"])} - {("event", "")}
        for row in tables.rows("videos", ["video_id", "group", "metadata.event"])
    }
    corpus = sorted(kin)
    found = []
    for row in queries:
        query_id = row["query_id"]
        answers = {row["video_id"], *(video for video, grade in relevant.get(query_id, {}).items() if grade > 0)}
        taken = set[tuple[str, str]]().union(*(kin.get(video, ()) for video in answers))
        start = int(fingerprint(query_id), 16)
        for step in range(len(corpus)):
            video_id = corpus[(start + step) % len(corpus)]
            if video_id in answers or not kin[video_id].isdisjoint(taken):
                continue
            pair = _pair(query_id, texts[query_id], videos.get(video_id), is_positive=False)
            if pair is not None and not set(shown).isdisjoint(pair.video.evidence.present):
                found.append(pair)
                break
    return found


def video_index(tables: Tables) -> VideoIndex:
    """The videos of an output with what a judge sees of them."""
    return VideoIndex(tables, _VIDEO_COLUMNS)


def _least(rows: Iterable[Row], n: int) -> list[Row]:
    keyed = ((fingerprint([row["query_id"], row["video_id"]]), row) for row in rows)
    return [row for _, row in heapq.nsmallest(n, keyed, key=lambda item: item[0])]


def _texts(tables: Tables, wanted: set[str]) -> dict[str, str]:
    rows = tables.rows("queries", ["query_id", "text"])
    return {row["query_id"]: row["text"] for row in rows if row["query_id"] in wanted}


def _pair(query_id: str, text: str, row: Row | None, is_positive: bool) -> Pair | None:
    if row is None:
        return None
    video = Video(row["video_id"], row["uri"], read_plain(row["media"], MediaFacts), evidence_of(row))
    return Pair(QueryText(query_id, text), video, None, is_positive)
