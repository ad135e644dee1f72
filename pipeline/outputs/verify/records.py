"""Whether a row makes the record that it was written from: the rules of its birth, which are written nowhere twice."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from pipeline.outputs.tables import Row
from schemas.check import read_plain
from schemas.example import Example, Necessity, PerceptionExample, VideoExample
from schemas.losses import Loss
from schemas.query import Judgement, Margin, Query
from schemas.video import Video


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a row breaks; ``ill_typed`` where a value is null or of another kind than the record's."""

    rule: str
    ill_typed: bool


def _as_it_is(row: Row) -> Row:
    return row


def _video(row: Row) -> Row:
    return {**row, "evidence": {name: row[name] for name in ("caption", "asr", "ocr", "metadata")}}


def _judgement(row: Row) -> Row:
    panel = None if row["panel"] is None else [_with_margin(opinion) for opinion in row["panel"]]
    return {**_with_margin(row), "panel": panel}


def _with_margin(row: Row) -> Row:
    return {**row, "margin": None if row["delta"] is None else margin_of(row)}


def judgement_of(row: Row) -> Judgement | None:
    """The record of a row of judgements, None where it makes none."""
    try:
        return read_plain(_judgement(row), Judgement)
    except msgspec.ValidationError:
        return None


def _rejection(row: Row) -> Row:
    return {**row, "kind": "rejected"}


def _failure(row: Row) -> Row:
    return {**row, "kind": "failed", "reason": row["error_class"], "detail": row["message"]}


def margin_of(row: Row) -> Row:
    """The margin of a row that has one, in the names of the record."""
    return {
        "delta": row["delta"],
        "lo": row["delta_lo"],
        "hi": row["delta_hi"],
        "censored": row["censored"],
        "label_mass": row["label_mass"],
    }


_RECORDS: Mapping[str, tuple[type, Callable[[Row], Row]]] = {
    "videos": (Video, _video),
    "queries": (Query, _as_it_is),
    "judgements": (Judgement, _judgement),
    "ranking": (Example, _as_it_is),
    "ranking_by_video": (VideoExample, _as_it_is),
    "necessity": (Necessity, _as_it_is),
    "perception": (PerceptionExample, _as_it_is),
    "rejections": (Loss, _rejection),
    "failures": (Loss, _failure),
}


def broken_record(table: str, row: Row) -> Broken | None:
    """What keeps a row from being a record of its table; rows of split tables also bear their split."""
    kind, shape = _RECORDS[table]
    return _broken(shape(row), kind)


def broken_margin(row: Row) -> Broken | None:
    """What is wrong with the margin of a row that has one."""
    return _broken(margin_of(row), Margin)


def broken_probability(row: Row) -> Iterator[str]:
    """What is wrong with the columns of a margin that are not in its record, or are not null where it is."""
    delta, p_yes = row["delta"], row["p_yes"]
    if delta is None and any(row[name] is not None for name in ("delta_lo", "delta_hi", "censored", "label_mass")):
        yield "bounds, censored and label_mass are null where delta is"
    if (delta is None) != (p_yes is None):
        yield "p_yes is null exactly where delta is"
    elif delta is not None and not math.isclose(p_yes, 1 / (1 + math.exp(-max(-700.0, delta))), abs_tol=1e-6):
        yield f"p_yes must be sigmoid(delta), got {p_yes} for {delta}"


def _broken(row: Row, kind: type) -> Broken | None:
    try:
        read_plain(row, kind)
    except msgspec.ValidationError as error:
        return Broken(str(error), ill_typed=error.__cause__ is None)  # a rule of the record itself is the cause
    return None
