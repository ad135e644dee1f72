"""One part of a video's evidence: the engine's answer with its stamp, or a warning that says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from schemas.video import Evidence, Modality, Video
from transforms.engines import EngineError
from transforms.engines.protocols import Engine
from transforms.sandbox import TimeLimitExceeded, WorkerDied
from transforms.text import one_line


class EngineFailed(RuntimeError):
    """An engine raised an error on this video; another video may fare better."""


@contextmanager
def engine_at_work() -> Iterator[None]:
    """Around the call of a loaded engine: its errors become ``EngineFailed``, with class and message, at most 500
    characters. What would fail on every video stops the run instead: an engine that cannot be loaded (loading stays
    outside), lacks a package, or says that it cannot work at all, as one does whose server refuses its key."""
    try:
        yield
    except (ImportError, EngineError):
        raise
    except Exception as error:
        # Whatever others' code raises on odd media.
        raise EngineFailed(one_line(f"{type(error).__name__}: {error}")[:500]) from error


def attempt(video: Video, part: Modality, engine: Engine, extract: Callable[[], Evidence]) -> Video:
    """``video`` with the evidence that ``extract`` returns and the stamp of ``engine``, or with one more warning.

    The warning's reason is "time limit", "worker died" or "engine failed". Other errors are not this video's own, and
    are passed on.
    """
    try:
        evidence = extract()
    except TimeLimitExceeded as error:
        return video.warned(part, "time limit", str(error))
    except WorkerDied as error:
        return video.warned(part, "worker died", str(error))
    except EngineFailed as error:
        return video.warned(part, "engine failed", str(error))
    return video.with_part(part, engine.stamp(), evidence)
