"""What can be said of many rows at once: for each row, whether its values are certainly as they must be."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.example import STRATA
from schemas.query import CONFIDENCE_SOURCES, LABELS
from schemas.video import MODALITIES
from transforms.curate.curate_query import CurateRules

Mask = npt.NDArray[np.bool_]

_SURELY_VISIBLE = r"[\pL\pN]"  # a letter or digit is white space to nobody
_STAMP = ("name", "version", "model", "fingerprint")


def true(column: pa.Array) -> Mask:
    """Where it is true; null is not."""
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), dtype=bool)


def mask(values: Iterable[bool], count: int) -> Mask:
    """So many values, a row each."""
    return np.fromiter(values, bool, count)


def null(column: pa.Array) -> Mask:
    """Where there is no value."""
    return np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=bool)


def given(*columns: pa.Array) -> Mask:
    """Where all of them have a value."""
    missing: Mask = np.logical_or.reduce([null(column) for column in columns])
    return ~missing


def number(column: pa.Array) -> npt.NDArray[np.float64]:
    """The values as 64-bit floats, NaN for null."""
    return np.asarray(pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def within(column: pa.Array, low: float, high: float = np.inf) -> Mask:
    """Where a number lies from ``low`` to ``high`` and is finite; null does not."""
    found = number(column)
    return (found >= low) & (found <= high) & np.isfinite(found)


def among(column: pa.Array, allowed: Collection[str]) -> Mask:
    """Where a text is one of these."""
    return true(pc.is_in(column, value_set=pa.array(allowed, pa.string())))


def texts(column: pa.Array, holds: Callable[[str], bool]) -> Mask:
    """Where a text, of which there are few different ones, is given and holds."""
    return among(column, [text for text in column.unique().to_pylist() if text is not None and holds(text)])


def visible(column: pa.Array) -> Mask:
    """Where a text is certainly not blank."""
    return true(pc.match_substring_regex(column, _SURELY_VISIBLE))


def field(column: pa.Array, name: str) -> pa.Array:
    """A field of structs, null where the struct is."""
    return pc.struct_field(column, name)


def stamped(column: pa.Array) -> Mask:
    """Where it is the stamp of an engine."""
    fields = [field(column, name) for name in _STAMP]
    return given(*fields) & texts(fields[0], lambda name: bool(name.strip()))


def everywhere(lists: pa.Array, holds: Callable[[pa.Array], Mask]) -> Mask:
    """Where a list is given, and all of its elements hold."""
    found = given(lists)
    elements = pc.list_flatten(lists)
    if len(elements):
        found[parents(lists)[~holds(elements)]] = False
    return found


def lengths(lists: pa.Array) -> npt.NDArray[np.int64]:
    """How many elements each list has; null has none."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(), dtype=np.int64)


def parents(lists: pa.Array) -> npt.NDArray[np.int64]:
    """Of each element of all lists, the number of its list."""
    return np.repeat(np.arange(len(lists)), lengths(lists))


def bounds(lists: pa.Array) -> list[tuple[int, int]]:
    """From where to where the elements of each list are among those of all of them."""
    ends = np.concatenate([[0], np.cumsum(lengths(lists))]).tolist()
    return list(pairwise(ends))


def of_modalities(lists: pa.Array) -> Mask:
    """Where a list is of modalities."""
    return everywhere(lists, lambda names: among(names, MODALITIES))


def cut(lists: pa.Array) -> Mask:
    """Where a list says what a prompt left out of the evidence."""

    def holds(one: pa.Array) -> Mask:
        shown, of = number(field(one, "shown")), number(field(one, "of"))
        return among(field(one, "modality"), MODALITIES) & (shown >= 0) & (shown < of)

    return everywhere(lists, holds)


def placed(lists: pa.Array) -> Mask:
    """Where a list has places in runs."""

    def holds(one: pa.Array) -> Mask:
        rank = field(one, "rank")
        named = texts(field(one, "run"), lambda name: bool(name.strip()))
        return named & (null(rank) | within(rank, 1)) & np.isfinite(number(field(one, "score")))

    return everywhere(lists, holds)


def sure(of: Callable[[str], pa.Array]) -> Mask:
    """Where a margin, the columns beside it and the confidence source agree, or there is none and nothing says so."""
    delta, low, high, p_yes = (number(of(name)) for name in ("delta", "delta_lo", "delta_hi", "p_yes"))
    mass, censored, prior, source = (
        of(name) for name in ("label_mass", "censored", "delta_prior", "confidence_source")
    )
    with np.errstate(over="ignore"):
        due = 1 / (1 + np.exp(-np.maximum(delta, -700.0)))
    bounded = np.isfinite(low) & np.isfinite(high) & (low <= delta) & (delta <= high) & (np.abs(p_yes - due) < 0.9e-6)
    bounded &= (null(mass) | within(mass, 0, 1)) & (null(censored) | among(censored, LABELS))
    none = np.logical_and.reduce(
        [null(of(n)) for n in ("delta", "delta_lo", "delta_hi", "censored", "label_mass", "p_yes")]
    )
    label_only = true(pc.equal(source, "label_only"))
    agree = np.where(label_only, none, bounded & given(of("delta")))
    return among(source, CONFIDENCE_SOURCES) & agree & (null(prior) | np.isfinite(number(prior)))


def in_stratum(found: pa.Array, is_positive: Mask, label: pa.Array, delta: pa.Array, rules: CurateRules) -> Mask:
    """Where a pair is in the stratum that ``stratum`` puts it into."""
    margin, unknown = number(delta), null(delta)
    is_in = {name: true(pc.equal(found, name)) for name in STRATA}
    no = np.where(margin <= rules.alpha1, is_in["trusted_negative"], is_in["hard_negative"])
    yes = np.where(unknown | (margin > rules.alpha2), is_in["suspected_positive"], is_in["hard_negative"])
    return np.where(is_positive, is_in["positive"], np.where(true(pc.equal(label, "no")), no, yes))
