"""Whether the ledger of an output balances, line by line and from step to step, and agrees with its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import msgspec

from pipeline.outputs.problem import Problem
from pipeline.outputs.tables import Row, Tables
from schemas.tables import TABLES
from transforms.ledger import Line, chain_of, read_ledger
from transforms.storage.files import join, read_bytes

LEDGER = "ledger.json"

_ROWS_LEAVING = {
    ("extract", "evidence"): "videos",
    ("judge", "judge"): "judgements",
    ("curate", "queries"): "ranking",
}
# What leaves a step within rows: their table, what it is, the column that tells, and how many of it a row has.
_WITHIN: Mapping[tuple[str, str], tuple[str, str, str, Callable[[Row], int]]] = {
    ("curate", "negatives"): (
        "ranking_by_video",
        "negatives",
        "candidates.list.element.label",
        lambda row: sum(not each["label"] for each in row["candidates"]),
    ),
    ("judge", "necessity"): (
        "necessity",
        "verdicts",
        "without.list.element.modality",
        lambda row: len(row["without"]),
    ),
}

_DEFER_QUERIES = (("mine", "select"), ("mine", "retrieve"), ("curate", "queries"))  # the steps that defer whole queries
_COUNTED_IN_JUDGEMENTS = ("curate", "pairs")  # the reasons of pairs stand in their own table, not among the rejections


def check_ledger(tables: Tables, entries: int) -> Iterator[Problem]:
    """Every line balances, lines follow from each other and from the ``entries`` of the input, and tables agree."""
    try:
        lines = read_ledger(read_bytes(join(tables.output, LEDGER)))
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        yield Problem(LEDGER, f"cannot be read: {error}")
        return
    yield from _check_chain(tables, {f"{line.stage}/{line.step}": line for line in lines}, entries)
    for line in lines:
        step = (line.stage, line.step)
        if line.missing:
            yield Problem(LEDGER, f"does not balance: {line.missing:+d} items", "/".join(step))
        table = line.step if line.stage == "emit" and line.step in TABLES else _ROWS_LEAVING.get(step)
        if table and line.left != tables.count(table):
            yield Problem(LEDGER, f"{line.left} left, {table} has {tables.count(table)} rows", "/".join(step))
        if step in _WITHIN:
            table, what, column, number = _WITHIN[step]
            count = sum(map(number, tables.rows(table, [column])))
            if line.left != count:
                yield Problem(LEDGER, f"{line.left} left, {table} has {count} {what}", "/".join(step))
    stated = {
        "rejections": Counter(_reasons(lines, "rejected", without=_COUNTED_IN_JUDGEMENTS)),
        "failures": Counter(_reasons(lines, "failed")),
        "judgements": Counter(
            {
                key: n
                for outcome in ("rejected", "deferred")
                for key, n in _reasons(lines, outcome).items()
                if key[:2] == _COUNTED_IN_JUDGEMENTS
            }
        ),
        "queries": _deferred_queries(lines),
    }
    waiting = {stage for stage, _ in _DEFER_QUERIES}
    counted = {
        "rejections": tables.counts("rejections", ["stage", "step", "reason"]),
        "failures": tables.counts("failures", ["stage", "step", "error_class"]),
        "judgements": Counter(
            {
                (*_COUNTED_IN_JUDGEMENTS, reason): count
                for (kept, reason), count in tables.counts("judgements", ["kept", "reason"]).items()
                if not kept
            }
        ),
        "queries": Counter(
            {
                (stage, "queries", reason): count  # a row does not tell the step
                for (verdict, stage, reason), count in tables.counts("queries", ["verdict", "stage", "reason"]).items()
                if verdict == "deferred" and stage in waiting
            }
        ),
    }
    for name, found in counted.items():
        for key in sorted(found.keys() | stated[name].keys()):
            if found[key] != stated[name][key]:
                rule = f"{stated[name][key]} in the ledger, {found[key]} in {name}"
                yield Problem(LEDGER, rule, "/".join(key))


def _check_chain(tables: Tables, lines: Mapping[str, Line], entries: int) -> Iterator[Problem]:
    """What enters a step is what left the one before; queries by people join before near-duplicates are dropped."""
    chain = chain_of(lines)
    missing = {"synthesize/filter", *(name for pair in chain for name in pair)} - lines.keys()
    if missing:
        yield from (Problem(LEDGER, "has no such line", name) for name in sorted(missing))
        return
    sources = tables.counts("queries", ["source"])
    filtered = lines["synthesize/filter"].left
    due = [
        ("extract/decode", entries, "listed in the input"),
        ("synthesize/filter", sources["teacher",], "by the teacher in queries"),
        ("synthesize/deduplicate", filtered + sources["human",], "left synthesize/filter or are by people in queries"),
        *((second, lines[first].left, f"left {first}") for first, second in chain),
    ]
    for name, count, origin in due:
        if lines[name].entered != count:
            yield Problem(LEDGER, f"{lines[name].entered} entered, {count} {origin}", name)


def _deferred_queries(lines: list[Line]) -> Counter[tuple[str, str, str]]:
    found: Counter[tuple[str, str, str]] = Counter()
    for (stage, step, reason), count in _reasons(lines, "deferred").items():
        if (stage, step) in _DEFER_QUERIES:
            found[stage, "queries", reason] += count
    return found


def _reasons(
    lines: list[Line], outcome: str, without: tuple[str, str] | None = None
) -> dict[tuple[str, str, str], int]:
    return {
        (line.stage, line.step, reason): count
        for line in lines
        if (line.stage, line.step) != without
        for reason, count in getattr(line, outcome).items()
    }
