"""Why a result is not in the journal: what has changed since the last record of its subject."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.video import EngineStamp
from transforms.journal.record import Key, Record

NEW = "new"
UNUSABLE = "record unusable"  # it names files that are gone, or another version wrote it
_DIGEST = re.compile(r"[0-9a-f]{16,}")
# What a request is made from: where one of these differs, that the request does says nothing more.
_OF_A_REQUEST = {"prompt", "count", "evidence", "query"}


@dataclass(frozen=True, slots=True)
class NotHeld:
    """Of a result that is not in the journal what a plan asks, in a tenth of its key's memory: there may be millions.

    ``digest`` is that of its key; ``confidence`` is what is asked of a judge's, "" of other steps.
    """

    step: str
    subject: str
    digest: int
    confidence: str
    why: str


def not_held(key: Key, before: Record | None) -> NotHeld:
    """The note of a key, given the last record of its subject."""
    confidence = key.settings.get("confidence", "")
    return NotHeld(key.step, key.subject, int(key.digest, 16), sys.intern(confidence), sys.intern(why(key, before)))


def why(key: Key, before: Record | None) -> str:
    """The reason in a few words; misses with the same cause have the same one.

    "new" where nothing of the subject is recorded, else what changed: values of the run with both values, those of the
    one subject by name; "failed before (ErrorClass)" where nothing did and a failure is tried again.
    """
    if before is None:
        return NEW
    if key.step == "media":
        return "media"
    changed = list(changes(before, key))
    if changed:
        return ", ".join(changed)
    return f"failed before ({before.failed.error_class})" if before.failed else UNUSABLE


def changes(before: Record, now: Key) -> Iterator[str]:
    """Each component of a key that an earlier record of the subject had otherwise."""
    yield from _of_engine(before.engine, now.engine)
    settings = _differing(before.settings, now.settings)
    for name in settings:
        yield f"{name} {_arrow(before.settings.get(name, ''), now.settings.get(name, ''))}"
    inputs = _differing(before.inputs, now.inputs)
    if not _OF_A_REQUEST.isdisjoint(settings + inputs):
        inputs = [name for name in inputs if name != "request"]
    yield from inputs


def _of_engine(before: EngineStamp | None, now: EngineStamp | None) -> Iterator[str]:
    if before is None or now is None or before == now:
        return
    if before.name != now.name:
        yield f"engine {_arrow(*(f'{stamp.name} {stamp.model}'.strip() for stamp in (before, now)))}"
        return
    if before.version != now.version:
        yield f"engine version {now.name} {_arrow(before.version, now.version)}"
    if before.model != now.model:
        yield f"model {_arrow(before.model, now.model)}"
    if (before.version, before.model) == (now.version, now.model):  # the fingerprint covers these as well
        yield f"engine options {_arrow(before.fingerprint, now.fingerprint)}"


def _differing(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [name for name in {**now, **before} if before.get(name) != now.get(name)]


def _arrow(before: str, now: str) -> str:
    """Both values; of two digests as many digits as tell them apart, at least four."""
    if _DIGEST.fullmatch(before) and _DIGEST.fullmatch(now):
        digits = next((n for n in range(4, len(now)) if before[:n] != now[:n]), None)
        before, now = before[:digits], now[:digits]
    return f"{before or 'none'} -> {now or 'none'}"
