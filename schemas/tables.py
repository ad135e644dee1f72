"""The Arrow schema of every table that a run writes, and the rows that records become in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import pyarrow as pa

from schemas.difficulty import DIMENSIONS
from schemas.example import SPLITS

SCHEMA_VERSION = "5"

_STRINGS = pa.list_(pa.string())
_ENGINE = pa.struct(
    [("name", pa.string()), ("version", pa.string()), ("model", pa.string()), ("fingerprint", pa.string())]
)
_CUT = pa.list_(pa.struct([("modality", pa.string()), ("shown", pa.int64()), ("of", pa.int64())]))
# The places of a video in the runs that found it; that of a query's own has no rank behind a run's last candidate.
_PLACES = pa.list_(pa.struct([("run", pa.string()), ("rank", pa.int32()), ("score", pa.float64())]))
_BOX = pa.struct([(side, pa.float64()) for side in ("left", "top", "right", "bottom")])

VIDEOS = pa.schema(
    [
        ("video_id", pa.string()),
        ("uri", pa.string()),
        ("split", pa.string()),
        ("group", pa.string()),
        (
            "metadata",
            pa.struct([(name, pa.string()) for name in ("title", "description", "language", "published", "event")]),
        ),
        (
            "media",
            pa.struct(
                [
                    ("sha256", pa.string()),
                    ("size_bytes", pa.int64()),
                    ("container", pa.string()),
                    ("duration_s", pa.float64()),
                    ("video_codec", pa.string()),
                    ("width", pa.int32()),
                    ("height", pa.int32()),
                    ("fps", pa.float64()),
                    ("audio_codec", pa.string()),
                    ("audio_s", pa.float64()),
                ]
            ),
        ),
        ("caption", pa.string()),
        (
            "asr",
            pa.list_(
                pa.struct(
                    [
                        ("start_s", pa.float64()),
                        ("end_s", pa.float64()),
                        ("text", pa.string()),
                        ("confidence", pa.float64()),
                    ]
                )
            ),
        ),
        (
            "ocr",
            pa.list_(
                pa.struct(
                    [
                        ("time_s", pa.float64()),
                        ("last_s", pa.float64()),
                        ("text", pa.string()),
                        ("box", _BOX),
                        ("confidence", pa.float64()),
                    ]
                )
            ),
        ),
        ("engines", pa.list_(pa.struct([("part", pa.string()), ("engine", _ENGINE)]))),
        ("warnings", pa.list_(pa.struct([("part", pa.string()), ("reason", pa.string()), ("message", pa.string())]))),
        ("frame_times_s", pa.list_(pa.float64())),
        ("frames", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
    ]
)

_DIFFICULTY = pa.struct(
    [
        ("rated", pa.struct([(name, pa.int8()) for name in DIMENSIONS])),
        ("cross_modal", pa.int32()),
        ("lexical_gap", pa.float64()),
        ("length", pa.string()),
    ]
)

QUERIES = pa.schema(
    [
        ("query_id", pa.string()),
        ("video_id", pa.string()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("query_type", pa.string()),
        ("variant", pa.string()),
        ("part_of", pa.string()),
        ("language", pa.string()),
        ("rationale", pa.string()),
        ("modalities", _STRINGS),
        ("cited", _STRINGS),
        ("difficulty", _DIFFICULTY),
        ("writer", _ENGINE),
        ("seed", pa.int64()),
        ("attempts", pa.int32()),
        ("prompt_sha256", pa.string()),
        ("evidence_cut", _CUT),
        ("reply", pa.string()),
        ("positive_rank", pa.int32()),
        ("positive_score", pa.float64()),
        ("positive_runs", _PLACES),
        ("verdict", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)

_MARGIN = [
    ("delta", pa.float64()),
    ("delta_lo", pa.float64()),
    ("delta_hi", pa.float64()),
    ("censored", pa.string()),
    ("label_mass", pa.float64()),
    ("delta_prior", pa.float64()),
    ("p_yes", pa.float64()),
    ("confidence_source", pa.string()),
]

# What further judges say of a pair.
_PANEL = pa.list_(
    pa.struct(
        [
            ("judge", pa.string()),
            ("label", pa.string()),
            *_MARGIN,
            ("rationale", pa.string()),
            ("teacher", _ENGINE),
            ("prompt_sha256", pa.string()),
            ("evidence_cut", _CUT),
            ("reply", pa.string()),
        ]
    )
)

JUDGEMENTS = pa.schema(
    [
        ("query_id", pa.string()),
        ("video_id", pa.string()),
        ("is_positive", pa.bool_()),
        ("label", pa.string()),
        *_MARGIN,
        ("rank", pa.int32()),
        ("score", pa.float64()),
        ("runs", _PLACES),
        ("stratum", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("rationale", pa.string()),
        ("teacher", _ENGINE),
        ("prompt_sha256", pa.string()),
        ("evidence_cut", _CUT),
        ("reply", pa.string()),
        ("panel", _PANEL),
    ]
)

RANKING = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("source", pa.string()),
        ("query_type", pa.string()),
        ("variant", pa.string()),
        ("modalities", _STRINGS),
        ("rationale", pa.string()),
        (
            "candidates",
            pa.list_(
                pa.struct(
                    [
                        ("video_id", pa.string()),
                        ("label", pa.int8()),
                        ("stratum", pa.string()),
                        ("teacher_label", pa.string()),
                        *_MARGIN,
                        ("rationale", pa.string()),
                        ("rank", pa.int32()),
                        ("score", pa.float64()),
                        ("runs", _PLACES),
                    ]
                )
            ),
        ),
    ]
)

RANKING_BY_VIDEO = pa.schema(
    [
        ("query_id", pa.string()),
        ("video_id", pa.string()),
        ("writer", _ENGINE),
        ("verifier", _ENGINE),
        ("reworded_from", pa.string()),
        (
            "candidates",
            pa.list_(
                pa.struct(
                    [
                        ("query_id", pa.string()),
                        ("query", pa.string()),
                        ("label", pa.int8()),
                        ("edit", pa.string()),
                        ("teacher_label", pa.string()),
                        *_MARGIN,
                        ("rationale", pa.string()),
                    ]
                )
            ),
        ),
    ]
)

# What the labels of positives rest on.
NECESSITY = pa.schema(
    [
        ("query_id", pa.string()),
        ("video_id", pa.string()),
        ("delta", pa.float64()),
        ("shown", _STRINGS),
        ("unseen", _STRINGS),
        (
            "without",
            pa.list_(
                pa.struct(
                    [
                        ("modality", pa.string()),
                        ("drop", pa.float64()),
                        ("teacher_label", pa.string()),
                        *_MARGIN,
                        ("rationale", pa.string()),
                    ]
                )
            ),
        ),
        ("rests_on", _STRINGS),
    ]
)

PERCEPTION = pa.schema([("video_id", pa.string()), ("caption", pa.string()), ("captioner", _ENGINE)])

REJECTIONS = pa.schema([(name, pa.string()) for name in ("stage", "step", "reason", "detail", "video_id", "query_id")])

FAILURES = pa.schema(
    [(name, pa.string()) for name in ("stage", "step", "error_class", "message", "uri", "video_id", "query_id")]
)


@dataclass(frozen=True)
class Table:
    """One table of the output folder: its name (also its folder), its columns, the columns that identify a row.

    ``split`` tables have one set of shards a split; the others have one set named "part". An ``optional`` table is
    written where the recipe asks for it.
    """

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    split: bool = False
    optional: bool = False

    @property
    def parts(self) -> tuple[str, ...]:
        """The shard name prefixes: the splits, or "part" alone."""
        return SPLITS if self.split else ("part",)

    def shard_path(self, part: str, index: int, count: int) -> str:
        """The shard's path within the output folder."""
        return f"{self.name}/{part}-{index:05d}-of-{count:05d}.parquet"

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """The schema with the metadata that shards carry: our version, and the features that `datasets` reads."""
        features = {"info": {"features": _features(self.schema)}}
        return self.schema.with_metadata(
            {"hardquery": f"{self.name} {SCHEMA_VERSION}", "huggingface": json.dumps(features, sort_keys=True)}
        )


TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        Table("videos", VIDEOS, ("video_id",)),
        Table("queries", QUERIES, ("query_id",)),
        Table("judgements", JUDGEMENTS, ("query_id", "video_id")),
        Table("ranking", RANKING, ("query_id",), split=True),
        Table("ranking_by_video", RANKING_BY_VIDEO, ("query_id",), split=True, optional=True),
        Table("necessity", NECESSITY, ("query_id", "video_id"), optional=True),
        Table("perception", PERCEPTION, ("video_id",), split=True),
        Table("rejections", REJECTIONS, ("stage", "step", "query_id", "video_id", "reason")),
        Table("failures", FAILURES, ("stage", "step", "uri", "query_id", "video_id")),
    )
}


def row_of(record: object) -> dict[str, Any]:
    """A record as a row: nested records become structs, tuples become lists."""
    row: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(bytes,))
    return row


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The schema in the notation of Hugging Face `datasets`, in which the ``frames`` column holds images."""
    described: dict[str, Any] = {field.name: _feature(field.type) for field in schema}
    if "frames" in described:
        described["frames"] = {"feature": {"_type": "Image"}, "_type": "List"}
    return described


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    names = {"double": "float64"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}
