"""One part of a video's evidence: the engine's answer with its stamp, or a warning that says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from schemas.video import Evidence, Video
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.workers.engine_at_work import EngineFailed
from transforms.workers.sandbox import TimeLimitExceeded, WorkerDied

T = TypeVar("T")


ENGINE_FAILED = "engine failed"
# What an engine's failure on a video is counted as, by the class of the error.
_REASONS: Mapping[type[Exception], str] = {
    TimeLimitExceeded: "time limit",
    WorkerDied: "worker died",
    EngineFailed: ENGINE_FAILED,
    MemoryError: "out of memory",  # the last: libraries have their own kinds of it
}
LACKING = frozenset(_REASONS.values())
"""Why a video lacks a part of its evidence that a later run may bring."""


def attempt(
    video: Video, key: Key, journal: Journal, extract: Callable[[], T], kind: Any, put: Callable[[T], Evidence]
) -> Video:
    """``video`` with the evidence that ``put`` makes of what ``extract`` returns, and with its engine's stamp.

    The result is journaled under ``key``, whose step is the part of the evidence. Where there is none the video has one
    more warning, whose reason is "time limit", "worker died", "out of memory" or "engine failed"; or it is deferred.
    Other errors are not this video's own, and are passed on.
    """
    assert key.engine is not None, "evidence is made by an engine"
    try:
        found = journal.once(key, extract, kind, failures=tuple(_REASONS))
    except Deferred as deferred:
        return replace(video, deferred=deferred.reason)
    except RecordedFailure as failure:
        reason = next(reason for kind, reason in _REASONS.items() if issubclass(failure.kind, kind))
        return video.warned(key.step, reason, failure.message)
    return video.with_part(key.step, key.engine, put(found))
