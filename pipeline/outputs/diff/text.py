"""A difference of two outputs as text for people, and as JSON Lines for programs."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, zip_longest
from typing import Any, get_args

from pipeline.outputs.diff.compare import Change, Kind
from pipeline.outputs.diff.diff import Diff, RowChange
from pipeline.outputs.diff.given import Cause
from pipeline.outputs.plain_text import Lines, heading, page, wrapped
from schemas.tables import TABLES

_PROMPT_LINES = 24
_CAUSES_A_TABLE = 12
_VALUE_WIDTH = 64
_TABLE_WIDTH = max(map(len, TABLES)) + 2
_BEFORE_DIFFERENCE = 16

_KINDS: tuple[Kind, ...] = get_args(Kind)


class Examples:
    """Keeps rows to show: at most ``limit`` a table and kind of change and causes, of which ``of`` picks a mixture."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._groups: Counter[tuple[str, Kind, tuple[Cause, ...]]] = Counter()
        self._rows: dict[str, dict[tuple[Kind, tuple[Cause, ...]], list[RowChange]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def wanted(self, change: Change, causes: tuple[Cause, ...]) -> bool:
        """Whether there is room for one more such row, which is then taken."""
        group = (change.table, change.kind, causes)
        self._groups[group] += 1
        return self._groups[group] <= self._limit

    def add(self, row: RowChange) -> None:
        """Keep a row."""
        self._rows[row.change.table][row.change.kind, row.causes].append(row)

    def of(self, table: str) -> list[RowChange]:
        """At most ``limit`` rows of a table, one of every kind and cause before a second; unexplained ones first."""
        groups = sorted(self._rows[table].items(), key=lambda item: (not _unexplained(item[0][1]), item[0]))
        turns = chain.from_iterable(zip_longest(*(rows for _, rows in groups)))
        return list(islice((row for row in turns if row is not None), self._limit))


def diff_text(found: Diff, examples: Examples) -> str:
    """The differences, causes first, without control characters."""
    return page(_pages(found, examples))


def _pages(found: Diff, examples: Examples) -> Lines:
    for name, output, manifest in zip("AB", found.outputs, (found.given.a, found.given.b), strict=True):
        yield f"{name}  {output}  ({manifest.recipe.get('name')}, {manifest.created})"
    yield from heading("What went in")
    yield from _given(found)
    yield from heading("Rows")
    yield from _counts(found)
    if found.files:
        yield f"  other files that differ: {', '.join(found.files)}"
    if not found.rows_differ:
        yield "  every row of every table is the same"
        return
    yield from heading("Why")
    yield from _why(found)
    for table in TABLES:
        rows = examples.of(table)
        if rows:
            total = sum(found.count(table, kind) for kind in _KINDS)
            yield from heading(f"{table}: {len(rows):,} of {total:,} rows that differ")
            for row in rows:
                yield from _row(row)


def _given(found: Diff) -> Lines:
    causes = found.given.all()
    for cause in causes:
        yield from wrapped(str(cause), "  ", " " * 6)
        if cause.kind == "prompt":
            yield from _prompt(found.given.prompt_lines(cause.text.split()[1].rstrip(":")))
    inputs = _counted_inputs(found)
    for text, rows in inputs.items():
        yield from wrapped(f"{text} ({rows:,} row{'s' * (rows != 1)})", "  ", " " * 6)
    if not causes and not inputs:
        yield "  recipe, engines, prompts, input and version are the same"


def _counted_inputs(found: Diff) -> dict[str, int]:
    """What only the rows tell of the input, such as videos added, and of calls left for later."""
    counted: Counter[str] = Counter()
    for (_, _, causes), rows in found.changed.items():
        for cause in causes:
            if cause.kind in ("input", "deferred") and not cause.through:
                counted[cause.text] += rows
    return dict(sorted(counted.items()))


def _prompt(lines: Sequence[str]) -> Lines:
    for line in lines[:_PROMPT_LINES]:
        yield from wrapped(line, "      ", "        ")
    if len(lines) > _PROMPT_LINES:
        yield f"      … {len(lines) - _PROMPT_LINES} more lines"


def _tables(found: Diff) -> list[str]:
    """The tables that A or B has, in their order."""
    rows = {table: found.same[table] + sum(found.count(table, kind) for kind in _KINDS) for table in TABLES}
    return [name for name, table in TABLES.items() if rows[name] or not table.optional]


def _counts(found: Diff) -> Lines:
    yield f"  {'table':<{_TABLE_WIDTH}}{'same':>10}{'changed':>10}{'only in A':>12}{'only in B':>12}"
    for table in _tables(found):
        changed, only_a, only_b = (found.count(table, kind) for kind in _KINDS)
        yield f"  {table:<{_TABLE_WIDTH}}{found.same[table]:>10,}{changed:>10,}{only_a:>12,}{only_b:>12,}"


def _why(found: Diff) -> Lines:
    for table in TABLES:
        groups = [(kind, causes, rows) for (name, kind, causes), rows in found.changed.items() if name == table]
        groups.sort(key=lambda group: (not _unexplained(group[1]), -group[2], group[0], group[1]))
        for kind, causes, rows in groups[:_CAUSES_A_TABLE]:
            start = f"  {table:<{_TABLE_WIDTH}}{kind:<11}{rows:>8,}  "
            yield from wrapped(_joined(causes), start, " " * len(start))
        if left := groups[_CAUSES_A_TABLE:]:
            rows = sum(rows for *_, rows in left)
            others = f"by {len(left)} other sets of causes (--json has them all)"
            yield f"  {table:<{_TABLE_WIDTH}}{'…':<11}{rows:>8,}  {others}"


def _row(row: RowChange) -> Lines:
    change = row.change
    key = " ".join(part for part in change.key if part)
    yield from wrapped(f"{change.kind}  {key}  <- {_joined(row.causes)}", "  ", " " * 6)
    if change.kind == "changed":
        for column in change.columns:
            a, b = (values.get(column) if values else None for values in (row.before, row.after))
            shown = "differ" if column == "frames" else " -> ".join(_around_difference(_text(a), _text(b)))
            yield from wrapped(f"{column}: {shown}", " " * 6, " " * 10)
    else:
        for column, value in (row.before or row.after or {}).items():
            if value not in (None, ""):
                yield from wrapped(f"{column}: {_clipped(_text(value))}", " " * 6, " " * 10)


def _joined(causes: Iterable[Cause]) -> str:
    """Causes as one line; what reaches the row on several ways is named once."""
    ways: dict[str, list[str]] = defaultdict(list)
    for cause in causes:
        ways[cause.text].append(cause.through)
    return "; ".join(
        text if through == [""] else f"{text} (through {', '.join(way or 'the row itself' for way in through)})"
        for text, through in ways.items()
    )


def _unexplained(causes: Iterable[Cause]) -> bool:
    return any(cause.kind == "unknown" for cause in causes)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _around_difference(a: str, b: str) -> tuple[str, str]:
    """Both texts, clipped to where they begin to differ."""
    if max(len(a), len(b)) <= _VALUE_WIDTH:
        return a, b
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    start = max(0, same - _BEFORE_DIFFERENCE)
    lead = "…" if start else ""
    return lead + _clipped(a[start:]), lead + _clipped(b[start:])


def _clipped(text: str) -> str:
    return text if len(text) <= _VALUE_WIDTH else f"{text[: _VALUE_WIDTH - 1]}…"


def row_json(row: RowChange) -> str:
    """One row that differs as a line of JSON, with whole values and in ASCII."""
    change = row.change
    key = dict(zip(TABLES[change.table].key, change.key, strict=True))
    return json.dumps(
        {
            "kind": "row",
            "table": change.table,
            "change": change.kind,
            "key": key,
            "columns": change.columns,
            "causes": [_cause_json(cause) for cause in row.causes],
            "before": row.before,
            "after": row.after,
        }
    )


def summary_json(found: Diff) -> Iterator[str]:
    """Everything but the rows as lines of JSON, in ASCII; ``kind`` is "given", "prompt", "input", "file", "table" or
    "why"."""
    for cause in found.given.all():
        yield json.dumps({**_cause_json(cause), "kind": "given", "of": cause.kind})
    for name in sorted({*found.given.a.prompts, *found.given.b.prompts}):
        if lines := found.given.prompt_lines(name):
            yield json.dumps({"kind": "prompt", "name": name, "diff": lines})
    for text, rows in _counted_inputs(found).items():
        yield json.dumps({"kind": "input", "text": text, "rows": rows})
    for path in found.files:
        yield json.dumps({"kind": "file", "path": path})
    for table in _tables(found):
        counts = {kind: found.count(table, kind) for kind in _KINDS}
        yield json.dumps({"kind": "table", "table": table, "same": found.same[table], **counts})
    for (table, kind, causes), rows in found.changed.items():
        why = [_cause_json(cause) for cause in causes]
        yield json.dumps({"kind": "why", "table": table, "change": kind, "causes": why, "rows": rows})


def _cause_json(cause: Cause) -> dict[str, str]:
    return {"kind": cause.kind, "text": cause.text, "through": cause.through}
