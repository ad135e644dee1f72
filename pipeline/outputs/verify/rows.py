"""What must hold between the rows of an output: keys, references, whole groups, and splits that share nothing."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from pipeline.outputs.manifest import RunInfo
from pipeline.outputs.problem import Problem
from pipeline.outputs.tables import Row, Tables
from pipeline.outputs.thresholds import rules_of
from pipeline.outputs.verify.by_video import broken_by_video
from pipeline.outputs.verify.necessity import broken_necessity
from pipeline.outputs.verify.panel import is_confirmed, unheeded_panel
from pipeline.outputs.verify.records import broken_margin, broken_probability, broken_record
from schemas.check import InvalidRecord
from schemas.example import POSITIVES, SPLITS, STRATA
from schemas.query import Label
from schemas.tables import TABLES
from transforms.curate.curate_query import CurateRules
from transforms.curate.strata import stratum
from transforms.emit.shards import WrittenFile, shard_index

Found = Iterator[tuple[str, str]]  # (row, rule)

_PLACE = re.compile(r"-(\d+)-of-(\d+)\.parquet$")
_UNKNOWN_VIDEO = "unknown video"  # why mining drops a human query whose video is not in the run
_NO_VIDEO = "no relevant video"  # why a query by people that names none is in no table but this one's
_MARGIN = ("delta", "delta_lo", "delta_hi", "censored", "label_mass", "delta_prior", "p_yes", "confidence_source")
_CANDIDATE = (
    *_MARGIN,
    "stratum",
    "rank",
    "score",
    "rationale",
)  # besides the runs, what a candidate has of its judgement
_VIDEO = [name for name in TABLES["videos"].schema.names if name != "frames"]  # pictures are not looked at
_IDS = ("query_id", "video_id", "uri")
_KEYED = ("videos", "queries", "judgements", "ranking", "ranking_by_video", "necessity", "perception")


@dataclass(slots=True)
class _Seen:
    """What earlier tables hold and later ones refer to."""

    rules: CurateRules
    wants_frames: bool
    video_split: dict[str, str] = field(default_factory=dict)
    event_split: dict[str, str] = field(default_factory=dict)
    group_split: dict[str, str] = field(default_factory=dict)
    video_group: dict[str, str] = field(default_factory=dict)  # of videos whose group is named for another
    without_frames: set[str] = field(default_factory=set)
    query_video: dict[str, str] = field(default_factory=dict)
    kept_queries: dict[str, str] = field(default_factory=dict)  # text by id
    examples: dict[str, str] = field(default_factory=dict)  # split by query
    positives: dict[tuple[str, str], float | None] = field(default_factory=dict)  # margins of those of examples
    captions: dict[str, int] = field(default_factory=dict)  # hashes by video
    kept_pairs: dict[tuple[str, str], int] = field(default_factory=dict)  # hashes, see _judged
    text_split: dict[str, str] = field(default_factory=dict)  # of folded texts of examples


def check_rows(tables: Tables, run: RunInfo) -> Generator[Problem, None, bool]:
    """Every broken rule, table by table: first of the rows as records, then between them.

    What is null, or of another kind than it must be, is a problem of its row, of which nothing else is asked then.

    Returns:
        Whether there was no such row.
    """
    try:
        rules = rules_of(run)
    except (msgspec.ValidationError, InvalidRecord) as error:
        yield Problem("manifest.json", f"recipe.curate: {error}")
        return False
    seen = _Seen(rules, wants_frames=bool(run.recipe.get("emit", {}).get("frames")))
    well_typed = True
    checks = {
        "videos": (_check_video, [*_VIDEO, "frames.list.element.path"]),
        "queries": (_check_query, None),
        "judgements": (_check_judgement, None),
        "ranking": (_check_example, None),
        "ranking_by_video": (_check_by_video, None),
        "necessity": (lambda row, seen: broken_necessity(row, seen.positives), None),
        "perception": (_check_perception, None),
        "rejections": (_check_rejection, None),
        "failures": (_check_failure, None),
    }
    for name, (check, columns) in checks.items():
        for shard in tables.shards(name):
            keys: set[tuple[str, ...]] = set()
            for row in tables.rows_of(shard, columns):
                if TABLES[name].split:
                    row["split"] = _split_of(shard)
                found = list(_check_key(name, row, shard, keys))
                broken = broken_record(name, row)
                if broken:
                    found.append((_id_of(row, TABLES[name].key if name in _KEYED else _IDS), broken.rule))
                if broken and broken.ill_typed:
                    well_typed = False
                    _note(name, row, seen)
                else:
                    found += check(row, seen)
                yield from (Problem(shard.path, rule, where) for where, rule in found)
    for video_id, group in sorted(seen.video_group.items()):
        if group not in seen.video_split or group in seen.video_group or group > video_id:
            yield Problem("videos/", f"its group {group!r} is named for the smallest id among its videos", video_id)
    for query_id in sorted(seen.kept_queries.keys() - seen.examples.keys()):
        yield Problem("queries/", "is kept, and no example holds it", query_id)
    for query_id, video_id in sorted(seen.kept_pairs):
        yield Problem("judgements/", "is kept, and no example holds it", f"{query_id}:{video_id}")
    return well_typed


def _check_key(name: str, row: Row, shard: WrittenFile, keys: set[tuple[str, ...]]) -> Found:
    """A row's key is unique in its shard; as its first column decides the shard, it is then unique in the table."""
    if name not in _KEYED:
        return
    key = tuple(row[column] for column in TABLES[name].key)
    if None in key:  # which the record refuses
        return
    where = ":".join(key)
    if key in keys:
        yield where, f"its {' and '.join(TABLES[name].key)} is not unique"
    keys.add(key)
    place = _PLACE.search(shard.path)
    if place and shard_index(key[0], int(place[2])) != int(place[1]):
        yield where, f"belongs in shard {shard_index(key[0], int(place[2]))}"


def _note(name: str, row: Row, seen: _Seen) -> None:
    """That there is such a row, of which nothing else can be said: what refers to it does not miss it."""
    if name == "videos":
        seen.video_split[row["video_id"]] = row["split"]
    elif name == "queries":
        seen.query_video[row["query_id"]] = row["video_id"]


def _check_video(row: Row, seen: _Seen) -> Found:
    video_id, split, event, group = row["video_id"], row["split"], row["metadata"]["event"], row["group"]
    seen.video_split[video_id] = split
    seen.captions[video_id] = hash(row["caption"])
    if split not in SPLITS:
        yield video_id, f"split must be one of {', '.join(SPLITS)}, got {split!r}"
    if event and seen.event_split.setdefault(event, split) != split:
        yield video_id, f"event {event!r} is in two splits"
    if seen.group_split.setdefault(group, split) != split:
        yield video_id, f"the near-duplicates of {group!r} are in two splits"
    if group != video_id:
        seen.video_group[video_id] = group
    frames, times = row["frames"] or [], row["frame_times_s"] or []
    if len(frames) != len(times):
        yield video_id, f"{len(frames)} frames but {len(times)} frame times"
    if not frames:
        seen.without_frames.add(video_id)


def _check_query(row: Row, seen: _Seen) -> Found:
    query_id = row["query_id"]
    seen.query_video[query_id] = row["video_id"]
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


def _check_judgement(row: Row, seen: _Seen) -> Found:
    query_id, video_id = row["query_id"], row["video_id"]
    where = f"{query_id}:{video_id}"
    if query_id not in seen.query_video:
        yield where, "its query is not in queries"
    elif row["is_positive"] != (seen.query_video[query_id] == video_id):
        yield where, "the positive, and no other pair, is of its query's own video"
    if video_id not in seen.video_split:
        yield where, "its video is not in videos"
    if (row["rank"] is None) != (row["score"] is None):
        yield where, "rank and score are null together"
    yield from ((where, rule) for rule in broken_probability(row))
    confirmed = is_confirmed(row, seen.rules)
    yield from _check_stratum(where, row, row["is_positive"], row["label"], confirmed, seen)
    if unheeded := unheeded_panel(row, seen.rules):
        yield where, unheeded
    if row["kept"] != (not row["reason"]):
        yield where, "a reason is given exactly where a pair is not kept"
    if row["kept"]:
        seen.kept_pairs[query_id, video_id] = _judged(row, row["label"])


def _check_stratum(where: str, row: Row, is_positive: bool, label: Label, is_confirmed: bool, seen: _Seen) -> Found:
    found, delta, rules = row["stratum"], row["delta"], seen.rules
    if found not in STRATA:
        yield where, f"stratum must be one of {', '.join(STRATA)}, got {found!r}"
        return
    due = stratum(is_positive, label, delta, rules.alpha1, rules.alpha2)
    if due == "suspected_positive" and is_confirmed:
        due = "confirmed_positive"
    if found != due:
        by = f"label {label}, margin {delta}, alpha1 {rules.alpha1} and alpha2 {rules.alpha2}"
        yield where, f"its stratum is {due} by {by}, got {found}"


def _check_example(row: Row, seen: _Seen) -> Found:
    query_id, split = row["query_id"], row["split"]
    if query_id in seen.examples:
        yield query_id, "is in two splits, or twice in one"
    seen.examples[query_id] = split
    if query_id not in seen.query_video:
        yield query_id, "is not in queries"
    elif query_id not in seen.kept_queries:
        yield query_id, "its query was dropped"
    elif row["query"] != seen.kept_queries[query_id]:
        yield query_id, "its text is not that of its query"
    if seen.text_split.setdefault(" ".join(row["query"].casefold().split()), split) != split:
        yield query_id, f"the text {row['query']!r} is in two splits"
    strata = [candidate["stratum"] for candidate in row["candidates"]]
    if strata.count("trusted_negative") < seen.rules.min_trusted:
        yield query_id, f"fewer than {seen.rules.min_trusted} trusted negatives"
    negatives = sum(name not in POSITIVES for name in strata)
    if negatives > seen.rules.max_negatives:
        yield query_id, f"{negatives} negatives, at most {seen.rules.max_negatives}"
    for candidate in row["candidates"]:
        yield from _check_candidate(query_id, candidate, split, seen)
        own = candidate["stratum"] == "positive"
        if own and seen.query_video.get(query_id, candidate["video_id"]) != candidate["video_id"]:
            yield query_id, f"its positive {candidate['video_id']!r} is not its query's video"


def _check_candidate(query_id: str, candidate: Row, split: str, seen: _Seen) -> Found:
    video_id = candidate["video_id"]
    where = f"{query_id}:{video_id}"
    if candidate["label"]:
        seen.positives[query_id, video_id] = candidate["delta"]
    if candidate["delta"] is not None and (broken := broken_margin(candidate)):
        yield where, broken.rule
    yield from ((where, rule) for rule in broken_probability(candidate))
    own, confirmed = candidate["stratum"] == "positive", candidate["stratum"] == "confirmed_positive"
    yield from _check_stratum(where, candidate, own, candidate["teacher_label"], confirmed, seen)
    yield from _check_split(where, video_id, split, seen)
    if video_id in seen.without_frames and seen.wants_frames:
        yield where, "a candidate's video has frames"
    judged = seen.kept_pairs.pop((query_id, video_id), None)
    if judged is None:
        yield where, "a candidate is a kept judgement"
    elif judged != _judged(candidate, candidate["teacher_label"]):
        yield where, "label, margin, stratum, rank, score, runs and rationale are those of its judgement"


def _check_by_video(row: Row, seen: _Seen) -> Found:
    query_id = row["query_id"]
    if seen.examples.get(query_id) != row["split"]:
        yield query_id, f"no ranking group of {row['split']} has its query"
    else:
        yield from broken_by_video(row, seen.query_video[query_id], seen.kept_queries.get(query_id, ""))


def _judged(row: Row, label: str) -> int:
    """The hash of what a judgement and the candidate that it became have in common."""
    places = tuple((place["run"], place["rank"], place["score"]) for place in row["runs"])
    return hash((label, places, *(row[name] for name in _CANDIDATE)))


def _check_perception(row: Row, seen: _Seen) -> Found:
    video_id = row["video_id"]
    yield from _check_split(video_id, video_id, row["split"], seen)
    if video_id in seen.without_frames and seen.wants_frames:
        yield video_id, "a perception video has frames"
    if seen.captions.get(video_id, hash(row["caption"])) != hash(row["caption"]):
        yield video_id, "its caption is not that of its video"


def _check_split(where: str, video_id: str, split: str, seen: _Seen) -> Found:
    if video_id not in seen.video_split:
        yield where, f"video {video_id!r} is not in videos"
    elif seen.video_split[video_id] != split:
        yield where, f"video {video_id!r} is of split {seen.video_split[video_id]}, used in {split}"


def _check_rejection(row: Row, seen: _Seen) -> Found:
    if row["stage"] != "extract" and row["reason"] not in (_UNKNOWN_VIDEO, _NO_VIDEO):
        yield from _check_ids(row, seen)


def _check_failure(row: Row, seen: _Seen) -> Found:
    if row["stage"] != "extract":
        yield from _check_ids(row, seen)


def _check_ids(row: Row, seen: _Seen) -> Found:
    """The ids that are set exist; the extract stage is exempt, because what it drops is in no table."""
    if row["query_id"] and row["query_id"] not in seen.query_video:
        yield _id_of(row), f"query {row['query_id']!r} is not in queries"
    if row["video_id"] and row["video_id"] not in seen.video_split:
        yield _id_of(row), f"video {row['video_id']!r} is not in videos"


def _id_of(row: Row, names: Iterable[str] = _IDS) -> str:
    return ":".join(row[name] for name in names if row.get(name)) or row.get("step") or "a row without id"


def _split_of(shard: WrittenFile) -> str:
    return shard.path.rpartition("/")[2].partition("-")[0]
