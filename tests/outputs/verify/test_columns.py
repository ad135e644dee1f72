"""Rows that columns clear break no rule, and tell later tables what they would tell row by row."""

import math
import pickle
from copy import deepcopy
from itertools import compress

import pyarrow as pa
import pytest

from pipeline.outputs.verify.clear import BY_COLUMNS
from pipeline.outputs.verify.records import broken_record
from pipeline.outputs.verify.rows import RULES, Seen
from schemas.tables import TABLES
from tests.support.tiny_output import tiny_rows
from transforms.curate.curate_query import CurateRules
from transforms.teacher.panel import PanelRules

_PATHS = pa.list_(pa.struct([("path", pa.string())]))
_TEXTS = (
    "",
    " ",
    "odd",
    "\u3000",
    "q-0123456789abcdef",
    "validation",
    "dropped",
    "yes",
    "label_only",
    "prior",
    "cross",
)
_TEXTS += ("request", "positive", "hard_negative", "trusted_negative", "suspected_positive", "asr")
A_PANEL = CurateRules(panel=PanelRules(), positives="confirmed")
ODD = {
    pa.string(): (None, *_TEXTS),
    pa.float64(): (None, -1.0, 0.0, 1.5, -9.0, math.inf, math.nan),
    pa.bool_(): (None, True, False),
    **dict.fromkeys((pa.int64(), pa.int32(), pa.int8()), (None, -1, 0, 1, 7)),
}


def in_arrow(table, rows):
    """The rows as columns, without the bytes of frames."""
    batch = pa.RecordBatch.from_pylist(rows, TABLES[table].schema)
    if table == "videos":
        batch = batch.set_column(
            batch.schema.get_field_index("frames"),
            "frames",
            pa.array([[{"path": None} for _ in row["frames"] or ()] for row in rows], _PATHS),
        )
    return batch


def seen_before(table):
    """What the tables before this one tell, whose rows are all clear."""
    seen = Seen(CurateRules(), wants_frames=True)
    for name, (is_clear, note_all) in BY_COLUMNS.items():
        if name == table:
            break
        for part in TABLES[name].parts:
            batch = in_arrow(name, [row for where, row in tiny_rows()[name] if where == part])
            assert is_clear(batch, part, seen).all()
            note_all(batch, part, seen)
    return seen


def mutations(value, kind, path=()):
    """(Path, other value) for every place within a value of this type."""
    if path:
        yield path, None
    if pa.types.is_struct(kind):
        for field in kind if value else ():
            yield from mutations(value[field.name], field.type, (*path, field.name))
    elif pa.types.is_list(kind):
        yield path, []
        if value:
            yield from ((path, other) for other in ([*value, value[0]], [*value, None], value[::-1], value[1:]))
            for at in {0, len(value) - 1}:
                yield from mutations(value[at], kind.value_type, (*path, at))
    else:
        yield from ((path, odd) for odd in ODD.get(kind, ()) if odd != value)


def put(row, path, value):
    for name in path[:-1]:
        row = row[name]
    row[path[-1]] = value


def mutated(table, row):
    """(Path, value, row with it), for every place in a row and every odd value."""
    [plain] = in_arrow(table, [row]).to_pylist()  # lists, and no tuples
    for path, odd in mutations(plain, pa.struct(in_arrow(table, [row]).schema)):
        other = deepcopy(plain)
        put(other, path, odd)
        yield path, odd, other


def together(rows):
    """What columns are given at once; videos of a batch must agree, so that what changes that goes by itself."""
    alone = [row for row in rows if row[0][0] in ("split", "group", "metadata")]
    return [[row for row in rows if row not in alone], *([row] for row in alone)] if "media" in rows[0][2] else [rows]


def test_columns_clear_every_row_of_a_sound_output():
    seen = seen_before(None)

    assert seen.kept_pairs == {}
    assert seen.kept_queries.keys() == seen.examples.keys()


@pytest.mark.parametrize(
    ("table", "rules"),
    [*((table, CurateRules()) for table in BY_COLUMNS), ("judgements", A_PANEL), ("ranking", A_PANEL)],
)
def test_what_columns_clear_breaks_no_rule_and_tells_the_same(table, rules):
    is_clear, note_all = BY_COLUMNS[table]
    before = seen_before(table)
    before.rules = rules
    cleared = not_cleared = 0
    fresh = pickle.dumps(before)  # read back sooner than copied
    for part, first in tiny_rows()[table][: 1 if table == "videos" else 2]:
        split = part if TABLES[table].split else ""
        for rows in together(list(mutated(table, first))):
            clear = is_clear(in_arrow(table, [row for _, _, row in rows]), split, before)
            not_cleared += len(rows) - clear.sum()
            for path, odd, row in compress(rows, clear):
                by_columns, by_row = pickle.loads(fresh), pickle.loads(fresh)
                note_all(in_arrow(table, [row]), split, by_columns)
                read = row | ({"split": split} if split else {})
                assert broken_record(table, read) is None, (path, odd)
                assert list(RULES[table](read, by_row)) == [], (path, odd)
                assert by_columns == by_row, (path, odd)
                cleared += 1
    assert cleared
    assert not_cleared
