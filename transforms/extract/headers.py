"""What a media file says of itself in its headers: cheap, and not to be relied on."""

from __future__ import annotations

from dataclasses import dataclass

from transforms.media.container import UnreadableMedia, film_stream, open_media, sound_streams
from transforms.workers.sandbox import TimeLimitExceeded, WorkerDied, run_isolated
from transforms.workers.watchdog import Limit

_LIMIT = Limit(cpu_s=5.0)


@dataclass(frozen=True, slots=True)
class Headers:
    """Which streams a file announces, and its length in seconds, None where it gives none."""

    has_video: bool
    has_audio: bool
    duration_s: float | None


def probe(path: str, workers: int = 1) -> Headers | None:
    """The headers of a local file, read in one of ``workers`` child processes; None where nothing can be read."""
    try:
        return run_isolated(read_headers, path, limit=_LIMIT, workers=workers)
    except (UnreadableMedia, TimeLimitExceeded, WorkerDied, MemoryError):
        return None


def read_headers(path: str) -> Headers:
    """The headers of a local file. Raises ``UnreadableMedia`` where it is no media file."""
    with open_media(path) as container:
        duration_s = container.duration / 1e6 if container.duration and container.duration > 0 else None
        return Headers(film_stream(container, path) is not None, bool(sound_streams(container, path)), duration_s)
