"""An engine at work on one input: its errors are that input's own, but for those that every other would meet too."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from schemas.usage import Usage
from schemas.visible import one_line
from transforms.protocols.engine import EngineError
from transforms.storage.cache_failed import CacheFailed


class EngineFailed(RuntimeError):
    """An engine raised an error on this input; another input may fare better.

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
    characters. What would fail on every input stops the run instead: an engine that cannot be loaded (loading stays
    outside), lacks a package, or says that it cannot work at all, as one does whose server refuses its key; and
    so does a file of the cache that cannot be read, and a call that was cancelled because the run is over. A lack of
    memory keeps its name."""
    try:
        yield
    except (ImportError, EngineError, CacheFailed, MemoryError, CancelledError):
        raise
    except Exception as error:  # whatever others' code raises on odd input
        message = one_line(f"{type(error).__name__}: {error}")[:500]
        usage = getattr(error, "usage", None)
        used = usage if isinstance(usage, Usage) else None
        permanent, refused = (bool(getattr(error, name, False)) for name in ("permanent", "refused"))
        raise EngineFailed(message, permanent, used, refused) from error
