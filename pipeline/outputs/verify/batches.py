"""Every row of an output held against its rules: batches by columns, and what these do not clear row by row."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Generator, Iterator
from itertools import compress

import msgspec
import numpy as np
import pyarrow as pa

from pipeline.outputs.manifest import RunInfo
from pipeline.outputs.problem import Problem
from pipeline.outputs.tables import Row, Tables
from pipeline.outputs.thresholds import rules_of
from pipeline.outputs.verify.clear import BY_COLUMNS
from pipeline.outputs.verify.columns import Mask, mask
from pipeline.outputs.verify.records import broken_record
from pipeline.outputs.verify.rows import IDS, RULES, Found, Seen, id_of, note
from schemas.check import InvalidRecord
from schemas.tables import TABLES
from transforms.emit.shards import WrittenFile, shard_index

_PLACE = re.compile(r"-(\d+)-of-(\d+)\.parquet$")
_KEYED = ("videos", "queries", "judgements", "ranking", "ranking_by_video", "necessity", "perception")
_COLUMNS = {  # pictures are not looked at
    "videos": [*(name for name in TABLES["videos"].schema.names if name != "frames"), "frames.list.element.path"]
}

Key = tuple[str, ...]


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
    seen = Seen(rules, wants_frames=bool(run.recipe.get("emit", {}).get("frames")))
    well_typed = True
    for name in RULES:
        for shard in tables.shards(name):
            keys: set[Key] = set()
            for rows in tables.batches_of(shard, _COLUMNS.get(name)):
                for row in _not_clear(name, rows, shard, keys, seen):
                    yield from (Problem(shard.path, rule, where) for where, rule in _check_key(name, row, shard, keys))
                    broken = broken_record(name, row)
                    if broken:
                        yield Problem(shard.path, broken.rule, _called(name, row))
                    if broken and broken.ill_typed:
                        well_typed = False
                        note(name, row, seen)
                    else:
                        found = RULES[name](row, seen)
                        yield from (Problem(shard.path, rule, where) for where, rule in found)
    for video_id, group in sorted(seen.video_group.items()):
        if group not in seen.video_split or group in seen.video_group or group > video_id:
            yield Problem("videos/", f"its group {group!r} is named for the smallest id among its videos", video_id)
    for query_id in sorted(seen.kept_queries.keys() - seen.examples.keys()):
        yield Problem("queries/", "is kept, and no example holds it", query_id)
    for query_id, video_id in sorted(seen.kept_pairs):
        yield Problem("judgements/", "is kept, and no example holds it", f"{query_id}:{video_id}")
    return well_typed


def _not_clear(name: str, rows: pa.RecordBatch, shard: WrittenFile, keys: set[Key], seen: Seen) -> Iterator[Row]:
    """The rows that are to be looked at one by one; of the others it is noted what they tell."""
    split = _split_of(shard) if TABLES[name].split else ""
    if name in BY_COLUMNS:
        is_clear, note_all = BY_COLUMNS[name]
        clear = is_clear(rows, split, seen)
        if name in _KEYED:
            found = list(zip(*(rows.column(column).to_pylist() for column in TABLES[name].key), strict=True))
            clear &= _fresh(found, shard, keys)
            keys.update(compress(found, clear))
        if clear.all():
            note_all(rows, split, seen)
            return
        note_all(rows.filter(pa.array(clear)), split, seen)
        rows = rows.filter(pa.array(~clear))
    for row in rows.to_pylist():
        yield row | {"split": split} if split else row


def _fresh(found: list[Key], shard: WrittenFile, keys: set[Key]) -> Mask:
    """Which keys are in no other row of this shard, and belong into it."""
    index, count = _place(shard)
    strays = {first for first in {key[0] for key in found} if first is None or shard_index(first, count) != index}
    if not strays and len(set(found)) == len(found) and keys.isdisjoint(found):
        return np.ones(len(found), bool)
    times = Counter(found)
    fresh = (times[key] == 1 and key not in keys and key[0] not in strays for key in found)
    return mask(fresh, len(found))


def _called(name: str, row: Row) -> str:
    return id_of(row, TABLES[name].key if name in _KEYED else IDS)


def _check_key(name: str, row: Row, shard: WrittenFile, keys: set[Key]) -> Found:
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
    index, count = _place(shard)
    if (due := shard_index(key[0], count)) != index:
        yield where, f"belongs in shard {due}"


def _place(shard: WrittenFile) -> tuple[int, int]:
    """Which of how many shards it is; paths are as they must be, or rows are not looked at."""
    place = _PLACE.search(shard.path)
    assert place is not None, shard.path
    return int(place[1]), int(place[2])


def _split_of(shard: WrittenFile) -> str:
    return shard.path.rpartition("/")[2].partition("-")[0]
