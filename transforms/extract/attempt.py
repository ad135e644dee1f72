"""One part of a video's evidence: the engine's answer with its stamp, or a warning that says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from schemas.usage import Usage
from schemas.video import Evidence, Video
from schemas.visible import one_line
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.protocols.engine import EngineError
from transforms.storage.cache import CacheFailed
from transforms.workers.sandbox import TimeLimitExceeded, WorkerDied

T = TypeVar("T")


class EngineFailed(RuntimeError):
    """An engine raised an error on this video; another video may fare better.

    ``permanent`` where the engine says that asking again could not help; ``usage`` where it asked a server, and
    ``refused`` where that would not take the question.
    """

    def __init__(
        self, message: str, permanent: bool = False, usage: Usage | None = None, refused: bool = False
    ) -> None:
        super().__init__(message)
        self.permanent = permanent
        self.usage = usage
        self.refused = refused

    def __reduce__(self) -> tuple[type[EngineFailed], tuple[str, bool, Usage | None, bool]]:
        # It may come out of a child process.
        return EngineFailed, (str(self), self.permanent, self.usage, self.refused)


@contextmanager
def engine_at_work() -> Iterator[None]:
    """Around the call of a loaded engine: its errors become ``EngineFailed``, with class and message, at most 500
    characters. What would fail on every video stops the run instead: an engine that cannot be loaded (loading stays
    outside), lacks a package, or says that it cannot work at all, as one does whose server refuses its key; and
    so does a file of the cache that cannot be read, and a call that was cancelled because the run is over. A lack of
    memory keeps its name."""
    try:
        yield
    except (ImportError, EngineError, CacheFailed, MemoryError, CancelledError):
        raise
    except Exception as error:  # whatever others' code raises on odd media
        message = one_line(f"{type(error).__name__}: {error}")[:500]
        usage = getattr(error, "usage", None)
        used = usage if isinstance(usage, Usage) else None
        permanent, refused = (bool(getattr(error, name, False)) for name in ("permanent", "refused"))
        raise EngineFailed(message, permanent, used, refused) from error


ENGINE_FAILED = "engine failed"
# What an engine's failure on a video is counted as, by the class of the error.
_REASONS: Mapping[type[Exception], str] = {
    TimeLimitExceeded: "time limit",
    WorkerDied: "worker died",
    EngineFailed: ENGINE_FAILED,
    MemoryError: "out of memory",  # the last: libraries have their own kinds of it
}


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
