"""What an output lacks and why, by its own books: the failures, rejections and deferrals that explain a missing row."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.outputs.diff.given import NOTHING, Cause, Causes
from pipeline.outputs.tables import Row, Tables
from schemas.losses import OF_NEGATIVES
from transforms.ledger import read_ledger
from transforms.storage.files import join, read_bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """The addresses of files that failed, the ids of files that were copies, the pairs without a verdict, and by stage
    what was left for a later run."""

    failed_uris: frozenset[str]
    copies: frozenset[str]
    pairs: frozenset[tuple[str, str]]
    deferred: dict[str, Causes]


def read_lost(tables: Tables, side: str) -> Lost:
    """The books of one output; ``side`` is "A" or "B"."""
    failures = list(tables.rows("failures", ["stage", "step", "uri", "query_id", "video_id"]))
    pairs = {(row["query_id"], row["video_id"]) for row in failures if _is_of_pair(row)}
    copies = set()
    for row in tables.rows("rejections", ["stage", "step", "query_id", "video_id"]):
        if _is_of_pair(row):
            pairs.add((row["query_id"], row["video_id"]))
        elif row["step"] == "deduplicate" and not row["query_id"]:
            copies.add(row["video_id"])
    deferred: dict[str, Causes] = {}
    for line in read_ledger(read_bytes(join(tables.output, "ledger.json"))):
        for reason in line.deferred:
            cause = Cause("deferred", f"deferred in {side} at {line.stage} ({reason})")
            deferred[line.stage] = deferred.get(line.stage, NOTHING) | {cause}
    failed = frozenset(row["uri"] for row in failures if row["stage"] == "extract")
    return Lost(failed, frozenset(copies), frozenset(pairs), deferred)


def _is_of_pair(row: Row) -> bool:
    return row["stage"] == "judge" and row["step"] not in OF_NEGATIVES
