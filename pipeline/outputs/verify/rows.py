"""What must hold between the rows of an output: keys, references, whole groups, and splits that share nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.outputs.tables import Row
from pipeline.outputs.verify.by_video import broken_by_video
from pipeline.outputs.verify.necessity import broken_necessity
from pipeline.outputs.verify.panel import is_confirmed, unheeded_panel
from pipeline.outputs.verify.records import broken_margin, broken_probability
from schemas.example import POSITIVES, SPLITS, STRATA
from schemas.query import Label
from transforms.curate.curate_query import CurateRules
from transforms.curate.strata import stratum

Found = Iterator[tuple[str, str]]  # (row, rule)

MARGIN = ("delta", "delta_lo", "delta_hi", "censored", "label_mass", "delta_prior", "p_yes", "confidence_source")
SHARED = (*MARGIN, "stratum", "rank", "score", "rationale")
"""What a candidate has of its judgement, besides the label and the places in runs."""

Place = tuple[str, int | None, float]  # run, rank, score

IDS = ("query_id", "video_id", "uri")
_UNKNOWN_VIDEO = "unknown video"  # why mining drops a human query whose video is not in the run
_NO_VIDEO = "no relevant video"  # why a query by people that names none is in no table but this one's


@dataclass(slots=True)
class Seen:
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
    kept_pairs: dict[tuple[str, str], int] = field(default_factory=dict)  # hashes, see judged
    text_split: dict[str, str] = field(default_factory=dict)  # of folded texts of examples


def folded(text: str) -> str:
    """A text as it is compared with others."""
    return " ".join(text.casefold().split())


def judged(label: str, places: tuple[Place, ...], shared: Iterable[Any]) -> int:
    """The hash of what a judgement and the candidate that it became have in common; ``shared`` as in SHARED."""
    return hash((label, places, *shared))


def note(name: str, row: Row, seen: Seen) -> None:
    """That there is such a row, of which nothing else can be said: what refers to it does not miss it."""
    if name == "videos":
        seen.video_split[row["video_id"]] = row["split"]
    elif name == "queries":
        seen.query_video[row["query_id"]] = row["video_id"]


def _check_video(row: Row, seen: Seen) -> Found:
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


def _check_query(row: Row, seen: Seen) -> Found:
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


def _check_judgement(row: Row, seen: Seen) -> Found:
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


def _check_stratum(where: str, row: Row, is_positive: bool, label: Label, is_confirmed: bool, seen: Seen) -> Found:
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


def _check_example(row: Row, seen: Seen) -> Found:
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
    if seen.text_split.setdefault(folded(row["query"]), split) != split:
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


def _check_candidate(query_id: str, candidate: Row, split: str, seen: Seen) -> Found:
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


def _check_by_video(row: Row, seen: Seen) -> Found:
    query_id = row["query_id"]
    if seen.examples.get(query_id) != row["split"]:
        yield query_id, f"no ranking group of {row['split']} has its query"
    else:
        yield from broken_by_video(row, seen.query_video[query_id], seen.kept_queries.get(query_id, ""))


def _judged(row: Row, label: str) -> int:
    """See ``judged``."""
    places = tuple((place["run"], place["rank"], place["score"]) for place in row["runs"])
    return judged(label, places, (row[name] for name in SHARED))


def _check_perception(row: Row, seen: Seen) -> Found:
    video_id = row["video_id"]
    yield from _check_split(video_id, video_id, row["split"], seen)
    if video_id in seen.without_frames and seen.wants_frames:
        yield video_id, "a perception video has frames"
    if seen.captions.get(video_id, hash(row["caption"])) != hash(row["caption"]):
        yield video_id, "its caption is not that of its video"


def _check_split(where: str, video_id: str, split: str, seen: Seen) -> Found:
    if video_id not in seen.video_split:
        yield where, f"video {video_id!r} is not in videos"
    elif seen.video_split[video_id] != split:
        yield where, f"video {video_id!r} is of split {seen.video_split[video_id]}, used in {split}"


def _check_rejection(row: Row, seen: Seen) -> Found:
    if row["stage"] != "extract" and row["reason"] not in (_UNKNOWN_VIDEO, _NO_VIDEO):
        yield from _check_ids(row, seen)


def _check_failure(row: Row, seen: Seen) -> Found:
    if row["stage"] != "extract":
        yield from _check_ids(row, seen)


def _check_ids(row: Row, seen: Seen) -> Found:
    """The ids that are set exist; the extract stage is exempt, because what it drops is in no table."""
    if row["query_id"] and row["query_id"] not in seen.query_video:
        yield id_of(row), f"query {row['query_id']!r} is not in queries"
    if row["video_id"] and row["video_id"] not in seen.video_split:
        yield id_of(row), f"video {row['video_id']!r} is not in videos"


def id_of(row: Row, names: Iterable[str] = IDS) -> str:
    """What a row is called in a problem."""
    return ":".join(row[name] for name in names if row.get(name)) or row.get("step") or "a row without id"


RULES: Mapping[str, Callable[[Row, Seen], Found]] = {
    "videos": _check_video,
    "queries": _check_query,
    "judgements": _check_judgement,
    "ranking": _check_example,
    "ranking_by_video": _check_by_video,
    "necessity": lambda row, seen: broken_necessity(row, seen.positives),
    "perception": _check_perception,
    "rejections": _check_rejection,
    "failures": _check_failure,
}
"""What must hold of a row of each table, given what those before it hold; in this order."""
