"""Splits: train or validation, decided by a hash of what must not be in both."""

from __future__ import annotations

from schemas.example import Split
from schemas.fingerprint import unit_interval


def split_of(split_key: str, validation_fraction: float, seed: int) -> Split:
    """The split of everything with this key (``Video.split_key``: its event, else the video itself).

    Equal keys are in one split, on every machine and whatever else is in the corpus; about ``validation_fraction``
    of all keys are in "validation", and a larger fraction keeps those that are in it.
    """
    return "validation" if unit_interval(f"{seed}:{split_key}") < validation_fraction else "train"
