"""What the journal holds of one result, and the key that it lies under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from schemas.check import read_json
from schemas.fingerprint import fingerprint
from schemas.usage import Usage
from schemas.video import EngineStamp

STEPS = (
    "media",
    "decode",
    "asr",
    "ocr",
    "caption",
    "frame_hashes",
    "write",
    "embed_video",
    "embed_query",
    "judge",
    "panel",
    "negatives",
    "verify",
    "necessity",
)
# Part of every key: raise it when what is recorded under the same key would no longer mean the same.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class Key:
    """What decides one result of a step.

    ``engine`` does the work; ``settings`` are values of the run that decide as well, such as a prompt's version;
    ``inputs`` are what this one result is made from, such as the hash of a file. ``subject`` decides nothing: it names
    what the result is about, so that an earlier result of the same subject can tell why this one is not there.
    """

    step: str
    subject: str
    engine: EngineStamp | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """32 hex digits."""
        engine = self.engine.fingerprint if self.engine else ""
        return fingerprint([FORMAT, self.step, engine, self.settings, self.inputs], length=32)


@dataclass(frozen=True, slots=True)
class Failed:
    """How work failed; ``permanent`` where trying again could not help."""

    error_class: str
    message: str
    permanent: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What the journal holds of one key: a value as JSON, or how the work failed; when (Unix time) and how long.

    ``value`` is null where the work failed. ``run`` names the run that made it.
    """

    step: str
    subject: str
    engine: EngineStamp | None
    settings: Mapping[str, str]
    inputs: Mapping[str, str]
    at: float
    seconds: float
    usage: Usage | None
    value: msgspec.Raw
    failed: Failed | None
    run: str = ""

    def number_of(self, digest: str) -> int:
        """64 bits that tell this record from all others, under its key."""
        return (int(digest[:16], 16) ^ round(1000 * self.at)) & (1 << 64) - 1


class RecordedFailure(RuntimeError):
    """Work that failed, now or in an earlier run whose failure stands; the same class and message either way.

    ``kind`` is the class of the error: that of ``error_class`` among the ``kinds`` that were to be recorded and what is
    derived from them, else the last of these, if any.
    """

    def __init__(self, failed: Failed, kinds: Sequence[type[Exception]]) -> None:
        super().__init__(failed.message)
        self.error_class, self.message, self.permanent = failed.error_class, failed.message, failed.permanent
        named = (kind for kind in _derived(kinds) if kind.__name__ == failed.error_class)
        self.kind: type[Exception] = next(named, kinds[-1] if kinds else Exception)


def _derived(kinds: Sequence[type[Exception]]) -> Iterator[type[Exception]]:
    for kind in kinds:
        yield kind
        yield from _derived(kind.__subclasses__())


@dataclass(frozen=True, slots=True)
class Miss:
    """A key that a journal which only looks does not hold, and the last record of its subject, if any."""

    key: Key
    before: Record | None


def record_of(data: bytes) -> Record | None:
    """The record of a line's JSON, None where another version wrote it."""
    try:
        return read_json(data, Record)
    except msgspec.DecodeError:
        return None
