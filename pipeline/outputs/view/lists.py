"""The lists of the page: groups, judged pairs, queries that look alike, what was left out, and how each is sorted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.outputs.view.index import Listed, Numbers

_CANDIDATE = "candidates.list.element."
_DELTA, _RANK, _LABEL = (f"{_CANDIDATE}{name}" for name in ("delta", "rank", "label"))

BY_VIDEO = "by_video"
"""The list of groups of one video, which few outputs have."""

SORTS = {
    "doubt": "least sure first",
    "against": "judge most against a label first",
    "rank": "rank most against margin first",
}
"""What the lists of groups and pairs can be sorted by, in words; of groups of one video only by the first two."""


def _measured_groups(rows: pa.Table) -> Mapping[str, Numbers]:
    """How doubtful groups are.

    "doubt": minus the smallest |margin| of a candidate (nats). "against": how far the judge leans against the least
    supported label, its margin for a negative and minus it for the positive (nats). "rank": by how many places the
    first stage puts some negative before the positive.
    """
    deltas, starts = _flat(rows[_DELTA])
    ranks, _ = _flat(rows[_RANK])
    positive = _flat(rows[_LABEL])[0] == 1
    leaning = np.where(positive, -deltas, deltas)
    own = np.fmin.reduceat(np.where(positive, ranks, np.nan), starts)
    others = np.fmin.reduceat(np.where(positive, np.nan, ranks), starts)
    return {
        "doubt": -np.fmin.reduceat(np.abs(deltas), starts),
        "against": np.fmax.reduceat(leaning, starts),
        "rank": own - others,
    }


def _measured_pairs(rows: pa.Table) -> Mapping[str, Numbers]:
    """How doubtful pairs are: as for groups, but "rank" is how late the first stage has a positive, then how early it
    has a negative.
    """
    deltas, ranks = _numbers(rows["delta"]), _numbers(rows["rank"])
    positive = np.asarray(rows["is_positive"])
    leaning = np.where(positive, -deltas, deltas)
    return {"doubt": -np.abs(deltas), "against": leaning, "rank": np.where(positive, ranks, -ranks)}


def _measured_look_alikes(rows: pa.Table) -> Mapping[str, Numbers]:
    """How doubtful groups of one video are: as for groups, but that no first stage ranked the queries."""
    deltas, starts = _flat(rows[_DELTA])
    leaning = np.where(_flat(rows[_LABEL])[0] == 1, -deltas, deltas)
    return {"doubt": -np.fmin.reduceat(np.abs(deltas), starts), "against": np.fmax.reduceat(leaning, starts)}


def _flat(column: pa.ChunkedArray) -> tuple[Numbers, Numbers]:
    """All values of a column of lists, none of them empty, and where each row's begin."""
    lists = column.combine_chunks()
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
    starts: Numbers = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return _numbers(pc.list_flatten(lists)), starts


def _numbers(column: pa.Array | pa.ChunkedArray) -> Numbers:
    numbers: Numbers = np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), float)
    return numbers


LISTS: Mapping[str, Listed] = {
    "groups": Listed(
        "ranking",
        {"type": "query_type", "variant": "variant", "source": "source", "stratum": f"{_CANDIDATE}stratum"},
        ("query", "query_id"),
        f"{_CANDIDATE}video_id",
        ("query_id", "query", "query_type", "variant", "source", "candidates"),
        (_DELTA, _RANK, _LABEL),
        _measured_groups,
    ),
    "pairs": Listed(
        "judgements",
        {"stratum": "stratum", "judged": "label", "reason": "reason", "confidence": "confidence_source"},
        ("query_id", "rationale"),
        "video_id",
        ("query_id", "video_id", "is_positive", "label", "delta", "rank", "stratum", "kept", "reason"),
        ("delta", "rank", "is_positive"),
        _measured_pairs,
    ),
    BY_VIDEO: Listed(
        "ranking_by_video",
        {"edit": f"{_CANDIDATE}edit"},
        (f"{_CANDIDATE}query", "query_id"),
        "video_id",
        ("query_id", "video_id", "candidates"),
        (_DELTA, _LABEL),
        _measured_look_alikes,
    ),
    "dropped": Listed(
        "queries",
        {"stage": "stage", "reason": "reason", "type": "query_type", "variant": "variant", "source": "source"},
        ("text", "query_id", "detail"),
        "video_id",
        ("query_id", "video_id", "text", "query_type", "variant", "source", "verdict", "stage", "reason", "detail"),
        without=("verdict", "kept"),
    ),
    "rejections": Listed(
        "rejections",
        {"stage": "stage", "step": "step", "reason": "reason"},
        ("query_id", "detail"),
        "video_id",
        ("stage", "step", "reason", "detail", "query_id", "video_id"),
    ),
    "failures": Listed(
        "failures",
        {"stage": "stage", "step": "step", "error": "error_class"},
        ("uri", "message", "query_id"),
        "video_id",
        ("stage", "step", "error_class", "message", "uri", "query_id", "video_id"),
    ),
}
