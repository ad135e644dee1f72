"""What must hold between the rows of an output: keys, references, whole groups, and splits that share nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pipeline.outputs.problem import Problem
from pipeline.outputs.tables import Row, Tables
from schemas.example import SPLITS, STRATA, Example, PerceptionExample
from schemas.query import CONFIDENCE_SOURCES, LABELS, Query
from schemas.tables import TABLES
from transforms.emit.shards import WrittenFile, shard_index

Found = Iterator[tuple[str, str]]  # (row, rule)

_PLACE = re.compile(r"-(\d+)-of-(\d+)\.parquet$")
_UNKNOWN_VIDEO = "unknown video"  # why mining drops a human query whose video is not in the run
_MARGIN = ("delta", "delta_lo", "delta_hi", "censored", "label_mass", "delta_prior", "p_yes", "confidence_source")
_KEYED = ("videos", "queries", "judgements", "ranking", "perception")


@dataclass(slots=True)
class _Seen:
    """What earlier tables hold and later ones refer to."""

    recipe: Mapping[str, Any]
    video_split: dict[str, str] = field(default_factory=dict)
    event_split: dict[str, str] = field(default_factory=dict)
    without_frames: set[str] = field(default_factory=set)
    query_video: dict[str, str] = field(default_factory=dict)
    kept_queries: dict[str, str] = field(default_factory=dict)  # text by id
    examples: set[str] = field(default_factory=set)
    kept_pairs: dict[tuple[str, str], tuple[Any, ...]] = field(default_factory=dict)  # see _judged
    text_split: dict[str, str] = field(default_factory=dict)  # of folded texts of examples


def check_rows(tables: Tables, recipe: Mapping[str, Any]) -> Iterator[Problem]:
    """Every broken rule, table by table."""
    seen = _Seen(recipe)
    checks = {
        "videos": (_check_video, ["video_id", "split", "metadata.event", "frame_times_s", "frames.list.element.path"]),
        "queries": (_check_query, None),
        "judgements": (_check_judgement, None),
        "ranking": (_check_example, None),
        "perception": (_check_perception, None),
        "rejections": (_check_rejection, None),
        "failures": (_check_failure, None),
    }
    for name, (check, columns) in checks.items():
        for shard in tables.shards(name):
            keys: set[tuple[str, ...]] = set()
            for row in tables.rows_of(shard, columns):
                found = [*_check_key(name, row, shard, keys), *check(row, shard, seen)]
                yield from (Problem(shard.path, rule, where) for where, rule in found)
    for query_id in sorted(seen.kept_queries.keys() - seen.examples):
        yield Problem("queries/", "is kept, and no example holds it", query_id)
    for query_id, video_id in sorted(seen.kept_pairs):
        yield Problem("judgements/", "is kept, and no example holds it", f"{query_id}:{video_id}")


def _check_key(name: str, row: Row, shard: WrittenFile, keys: set[tuple[str, ...]]) -> Found:
    """A row's key is unique in its shard; as its first column decides the shard, it is then unique in the table."""
    if name not in _KEYED:
        return
    key = tuple(row[column] for column in TABLES[name].key)
    where = ":".join(key)
    if key in keys:
        yield where, f"its {' and '.join(TABLES[name].key)} is not unique"
    keys.add(key)
    place = _PLACE.search(shard.path)
    if place and shard_index(key[0], int(place[2])) != int(place[1]):
        yield where, f"belongs in shard {shard_index(key[0], int(place[2]))}"


def _check_video(row: Row, _: WrittenFile, seen: _Seen) -> Found:
    video_id, split, event = row["video_id"], row["split"], row["metadata"]["event"]
    seen.video_split[video_id] = split
    if split not in SPLITS:
        yield video_id, f"split must be one of {', '.join(SPLITS)}, got {split!r}"
    if event and seen.event_split.setdefault(event, split) != split:
        yield video_id, f"event {event!r} is in two splits"
    frames, times = row["frames"] or [], row["frame_times_s"] or []
    if len(frames) != len(times):
        yield video_id, f"{len(frames)} frames but {len(times)} frame times"
    if not frames:
        seen.without_frames.add(video_id)


def _check_query(row: Row, _: WrittenFile, seen: _Seen) -> Found:
    query_id = row["query_id"]
    seen.query_video[query_id] = row["video_id"]
    yield from _check_record(query_id, row, Query)
    if not row["text"].strip():
        yield query_id, "its text is blank"
    waits = row["verdict"] == "deferred"
    if row["video_id"] not in seen.video_split and row["reason"] != _UNKNOWN_VIDEO and not waits:
        yield query_id, f"its video {row['video_id']!r} is not in videos"
    match row["verdict"]:
        case "kept":
            seen.kept_queries[query_id] = row["text"]
            if row["source"] == "teacher" and not row["rationale"].strip():
                yield query_id, "a kept written query has a rationale"
        case "dropped" | "deferred" as verdict:
            if not row["stage"] or not row["reason"]:
                yield query_id, f"a {verdict} query names stage and reason"
        case other:
            yield query_id, f"verdict must be kept, dropped or deferred, got {other!r}"


def _check_judgement(row: Row, _: WrittenFile, seen: _Seen) -> Found:
    query_id, video_id = row["query_id"], row["video_id"]
    where = f"{query_id}:{video_id}"
    if query_id not in seen.query_video:
        yield where, "its query is not in queries"
    if video_id not in seen.video_split:
        yield where, "its video is not in videos"
    if row["label"] not in LABELS:
        yield where, f"label must be yes or no, got {row['label']!r}"
    yield from _check_margin(where, row)
    yield from _check_stratum(where, row, row["label"], seen)
    if row["is_positive"] != (row["stratum"] == "positive"):
        yield where, "the positive, and no other pair, has the stratum positive"
    if row["kept"] != (not row["reason"]):
        yield where, "a reason is given exactly where a pair is not kept"
    if row["kept"]:
        seen.kept_pairs[query_id, video_id] = _judged(row, row["label"])


def _check_margin(where: str, row: Row) -> Found:
    delta, p_yes, source = row["delta"], row["p_yes"], row["confidence_source"]
    lo, hi, mass = row["delta_lo"], row["delta_hi"], row["label_mass"]
    if source not in CONFIDENCE_SOURCES:
        yield where, f"confidence_source must be one of {', '.join(CONFIDENCE_SOURCES)}, got {source!r}"
    if delta is None and any(row[name] is not None for name in ("delta_lo", "delta_hi", "censored", "label_mass")):
        yield where, "bounds, censored and label_mass are null where delta is"
    elif delta is not None and (lo is None or hi is None or not lo <= delta <= hi):
        yield where, f"delta lies between its bounds, got {delta} and {lo} to {hi}"
    if mass is not None and not 0.0 <= mass <= 1.0:
        yield where, f"label_mass must lie in [0, 1], got {mass}"
    if (delta is None) != (p_yes is None):
        yield where, "p_yes is null exactly where delta is"
    elif delta is not None and not math.isclose(p_yes, 1 / (1 + math.exp(-max(-700.0, delta))), abs_tol=1e-6):
        yield where, f"p_yes must be sigmoid(delta), got {p_yes} for {delta}"
    if (delta is None) != (source == "label_only"):
        yield where, "delta is null exactly where the confidence source is label_only"
    if source == "prior" and (delta != row["delta_prior"] or row["rationale"] or row["stratum"] == "positive"):
        yield where, "a pair judged by the prior alone is no positive, has no rationale, and its delta is the prior"


def _check_stratum(where: str, row: Row, label: str, seen: _Seen) -> Found:
    stratum, delta = row["stratum"], row["delta"]
    alpha1 = seen.recipe.get("curate", {}).get("alpha1")
    if stratum not in STRATA:
        yield where, f"stratum must be one of {', '.join(STRATA)}, got {stratum!r}"
    elif stratum == "trusted_negative" and (label != "no" or delta is None or (alpha1 is not None and delta > alpha1)):
        yield where, f"a trusted negative is a no with a margin of at most {alpha1}, got {label}, {delta}"
    elif stratum == "suspected_positive" and label != "yes":
        yield where, f"a suspected positive is a yes, got {label}"


def _check_example(row: Row, shard: WrittenFile, seen: _Seen) -> Found:
    query_id, split = row["query_id"], _split_of(shard)
    if query_id in seen.examples:
        yield query_id, "is in two splits, or twice in one"
    seen.examples.add(query_id)
    if query_id not in seen.query_video:
        yield query_id, "is not in queries"
    elif query_id not in seen.kept_queries:
        yield query_id, "its query was dropped"
    elif row["query"] != seen.kept_queries[query_id]:
        yield query_id, "its text is not that of its query"
    if seen.text_split.setdefault(" ".join(row["query"].casefold().split()), split) != split:
        yield query_id, f"the text {row['query']!r} is in two splits"
    yield from _check_record(query_id, row | {"split": split}, Example)
    strata = [candidate["stratum"] for candidate in row["candidates"]]
    curate = seen.recipe.get("curate", {})
    if strata.count("trusted_negative") < curate.get("min_trusted", 1):
        yield query_id, f"fewer than {curate.get('min_trusted', 1)} trusted negatives"
    if len(strata) - 1 > curate.get("max_negatives", 3):
        yield query_id, f"{len(strata) - 1} negatives, at most {curate.get('max_negatives', 3)}"
    for candidate in row["candidates"]:
        yield from _check_candidate(query_id, candidate, split, seen)
        if candidate["label"] and seen.query_video.get(query_id, candidate["video_id"]) != candidate["video_id"]:
            yield query_id, f"its positive {candidate['video_id']!r} is not its query's video"


def _check_candidate(query_id: str, candidate: Row, split: str, seen: _Seen) -> Found:
    video_id = candidate["video_id"]
    where = f"{query_id}:{video_id}"
    yield from _check_margin(where, candidate)
    yield from _check_stratum(where, candidate, candidate["teacher_label"], seen)
    yield from _check_split(where, video_id, split, seen)
    if video_id in seen.without_frames and seen.recipe.get("emit", {}).get("frames"):
        yield where, "a candidate's video has frames"
    judged = seen.kept_pairs.pop((query_id, video_id), None)
    if judged is None:
        yield where, "a candidate is a kept judgement"
    elif judged != _judged(candidate, candidate["teacher_label"]):
        yield where, "label, margin and stratum are those of its judgement"


def _judged(row: Row, label: str) -> tuple[Any, ...]:
    """What a judgement and the candidate that it became have in common."""
    return label, row["stratum"], *(row[name] for name in _MARGIN)


def _check_perception(row: Row, shard: WrittenFile, seen: _Seen) -> Found:
    split = _split_of(shard)
    yield from _check_record(row["video_id"], row | {"split": split}, PerceptionExample)
    yield from _check_split(row["video_id"], row["video_id"], split, seen)
    if row["video_id"] in seen.without_frames and seen.recipe.get("emit", {}).get("frames"):
        yield row["video_id"], "a perception video has frames"


def _check_split(where: str, video_id: str, split: str, seen: _Seen) -> Found:
    if video_id not in seen.video_split:
        yield where, f"video {video_id!r} is not in videos"
    elif seen.video_split[video_id] != split:
        yield where, f"video {video_id!r} is of split {seen.video_split[video_id]}, used in {split}"


def _check_rejection(row: Row, _: WrittenFile, seen: _Seen) -> Found:
    if not row["reason"]:
        yield _id_of(row), "a rejection names its reason"
    if row["stage"] != "extract" and row["reason"] != _UNKNOWN_VIDEO:
        yield from _check_ids(row, seen)


def _check_failure(row: Row, _: WrittenFile, seen: _Seen) -> Found:
    if not row["error_class"]:
        yield _id_of(row), "a failure names its error class"
    if row["stage"] != "extract":
        yield from _check_ids(row, seen)


def _check_ids(row: Row, seen: _Seen) -> Found:
    """The ids that are set exist; the extract stage is exempt, because what it drops is in no table."""
    if row["query_id"] and row["query_id"] not in seen.query_video:
        yield _id_of(row), f"query {row['query_id']!r} is not in queries"
    if row["video_id"] and row["video_id"] not in seen.video_split:
        yield _id_of(row), f"video {row['video_id']!r} is not in videos"


def _check_record(where: str, row: Row, kind: type) -> Found:
    """The row makes a valid record: the rules that records refuse to be born without are not written twice."""
    try:
        msgspec.convert(row, kind)
    except msgspec.ValidationError as error:
        yield where, str(error)


def _id_of(row: Row) -> str:
    return ":".join(row[name] for name in ("query_id", "video_id", "uri") if row.get(name)) or row["step"]


def _split_of(shard: WrittenFile) -> str:
    return shard.path.rpartition("/")[2].partition("-")[0]
