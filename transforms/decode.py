"""Decoding videos: each file becomes a Video that refers to its frames and its sound in the cache."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from schemas.account import Failure
from schemas.check import require
from schemas.fingerprint import fingerprint
from schemas.video import EngineUse, Evidence, ManifestEntry, Video
from transforms.cache import DISK_FULL, Cache, localized
from transforms.child_model import run_with_model
from transforms.decode_file import AUDIO_FILE, FRAMES_FILE, decode_file
from transforms.engines.protocols import Engine, FramePolicy
from transforms.media import FrameTooLarge, MediaError, NoVideoStream, UndecodableVideo
from transforms.sandbox import TimeLimitExceeded, WorkerDied

__all__ = ["DecodeVideos", "FrameTooLarge", "Limits", "NoVideoStream", "UndecodableVideo", "decode_video"]

# Part of every key in the cache: raise it when the same file and options give other pixels or samples than before.
FORMAT = 1
# What a bad file can do to decoding. Everything else is the machine's fault or the program's, and stops the run.
BAD_INPUT = (MediaError, MemoryError, TimeLimitExceeded, WorkerDied)
# The slowest decoding, in bytes of the file: 40 times the playing speed of a long, small video (50 kB/s), and a third
# of that of a 4K film. Headers are not asked, since a damaged one may promise any length.
DECODED_BYTES_PER_S = 2_000_000


@dataclass(frozen=True)
class Limits:
    """How long native code may work on one video.

    Speech and text: ``time_limit_s`` plus ``time_limit_per_media_s`` a second of video. Decoding, which comes before
    the length is known: ``time_limit_s`` plus a second for every 2 MB of the file. Sound after ``max_duration_s`` is
    dropped.
    """

    time_limit_s: float = 120.0
    time_limit_per_media_s: float = 4.0
    max_duration_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        for name in ("time_limit_s", "max_duration_s"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"{name} must be a number of seconds above 0", value)
        value = self.time_limit_per_media_s
        require(math.isfinite(value) and value >= 0, "time_limit_per_media_s must be a number of at least 0", value)

    def for_file(self, size: int) -> float:
        """The limit (seconds) for decoding a file of ``size`` bytes."""
        return self.time_limit_s + size / DECODED_BYTES_PER_S

    def for_media(self, duration_s: float) -> float:
        """The limit (seconds) for a video of this duration."""
        return self.time_limit_s + self.time_limit_per_media_s * min(duration_s, self.max_duration_s)


def decode_video(
    entry: ManifestEntry,
    path: str,
    folder: str,
    sampler: Engine,
    policy: FramePolicy,
    limits: Limits,
    cache: Cache,
    workers: int,
) -> Video:
    """Decode the file of ``entry``, at hand under ``path``, in a child process; publish frames and sound to the cache.

    They are made in ``folder``, which is temporary.

    The id is the manifest's, else it is made from the file's bytes. A file with sound only, or pictures only, becomes
    a Video with a warning.

    Raises:
        MediaError: it holds neither pictures nor sound that can be decoded; the subclasses say why.
        TimeLimitExceeded, WorkerDied: decoding hung or crashed; the child was replaced.
        EngineError: the sampler cannot be loaded.
        CannotPublish: the cache cannot be written.
    """
    decoded = run_with_model(
        decode_file,
        sampler,
        path,
        folder,
        policy,
        limits.max_duration_s,
        limit_s=limits.for_file(os.path.getsize(path)),
        workers=workers,
    )
    media, stamp = decoded.media, sampler.stamp()
    frame_pack = audio = None
    if decoded.frame_count:
        frame_pack = _key("frames", ".parquet", media.sha256, stamp, policy)
        cache.publish(str(Path(folder) / FRAMES_FILE), frame_pack)
    if media.audio_s is not None:
        audio = _key("audio", ".flac", media.sha256, stamp, limits.max_duration_s)
        cache.publish(str(Path(folder) / AUDIO_FILE), audio)
    return Video(
        video_id=entry.video_id or f"v-{media.sha256[:16]}",
        uri=entry.uri,
        media=media,
        evidence=Evidence(metadata=entry.metadata),
        frame_pack=frame_pack,
        frame_count=decoded.frame_count,
        audio=audio,
        engines=(EngineUse("decode", stamp),),
        warnings=(*entry.warnings, *decoded.warnings),
    )


@dataclass
class DecodeVideos(beam.PTransform):
    """ManifestEntry -> Video ("videos") and, for every file that cannot be decoded, Failure ("failures")."""

    sampler: Engine
    policy: FramePolicy
    limits: Limits
    cache: Cache
    workers: int

    def expand(self, entries: beam.PCollection) -> Any:
        return entries | "Decode" >> beam.FlatMap(
            _decode_or_fail, self.sampler, self.policy, self.limits, self.cache, self.workers
        ).with_outputs("failures", main="videos")


def _decode_or_fail(entry: ManifestEntry, *options: Any) -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        try:
            path = localized(entry.uri, folder)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            yield _failure(entry, error)
            return
        try:
            yield decode_video(entry, path, folder, *options)
        except BAD_INPUT as error:
            yield _failure(entry, error)


def _failure(entry: ManifestEntry, error: Exception) -> Any:
    failure = Failure(
        stage="extract",
        step="decode",
        error_class=type(error).__name__,
        message=f"{error}{_advice(error)}",
        uri=entry.uri,
        video_id=entry.video_id or "",
    )
    return beam.pvalue.TaggedOutput("failures", failure)


def _advice(error: BaseException) -> str:
    """What the owner of the file can do about it."""
    match error:
        case FrameTooLarge():
            return "; if such frames are meant, raise extract.frames.max_pixels"
        case TimeLimitExceeded():
            return "; if the file plays, raise extract.limits.time_limit_s"
        case WorkerDied() | MemoryError():
            return "; re-encode the file (ffmpeg -i IN OUT.mp4) or give the machine more memory"
        case MediaError():
            return "; check that the file plays, re-encode it, or take it out of the input"
        case PermissionError():
            return "; grant read permission"
        case _:
            return ""


def _key(kind: str, suffix: str, *parts: object) -> str:
    """The cache key of a file that follows from ``parts``."""
    name = fingerprint([FORMAT, kind, *parts])
    return f"{kind}/{name[:2]}/{name}{suffix}"
