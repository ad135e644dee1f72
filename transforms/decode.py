"""Decoding videos: each file becomes a Video that refers to its frames and its sound in the cache."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from schemas.account import Failure
from schemas.fingerprint import fingerprint
from schemas.video import EngineUse, Evidence, ManifestEntry, Video
from transforms.cache import Cache, localized
from transforms.decode_file import AUDIO_FILE, FRAMES_FILE, decode_file
from transforms.engines.protocols import Engine, FramePolicy
from transforms.media import FrameTooLarge, MediaError, NoVideoStream, UndecodableVideo
from transforms.sandbox import TimeLimitExceeded, WorkerDied, run_isolated

__all__ = ["DecodeVideos", "FrameTooLarge", "Limits", "NoVideoStream", "UndecodableVideo", "decode_video"]

# Part of every key in the cache: raise it when the same file and options give other pixels or samples than before.
FORMAT = 1
# The bit rate of a long, small video: what a file's size says of its length when its header is not to be trusted.
SLOW_BYTES_PER_S = 50_000

# What bad input can cause. Everything else is a mistake in the program and stops the run.
BAD_INPUT = (OSError, MediaError, MemoryError, TimeLimitExceeded, WorkerDied)
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Limits:
    """How long native code may work on one video: ``time_limit_s`` plus ``time_limit_per_media_s`` a second of video.

    Sound after ``max_duration_s`` is dropped.
    """

    time_limit_s: float = 120.0
    time_limit_per_media_s: float = 4.0
    max_duration_s: float = 6 * 3600.0

    def for_media(self, duration_s: float) -> float:
        """The limit (seconds) for a video of this duration."""
        return self.time_limit_s + self.time_limit_per_media_s * min(duration_s, self.max_duration_s)


def decode_video(
    entry: ManifestEntry, sampler: Engine, policy: FramePolicy, limits: Limits, cache: Cache, workers: int
) -> Video:
    """Decode one file in a child process and publish its frames and sound to the cache.

    The id is the manifest's, else it is made from the file's bytes. A file with sound only, or pictures only, becomes
    a Video with a warning.

    Raises:
        MediaError: it holds neither pictures nor sound that can be decoded; the subclasses say why.
        TimeLimitExceeded, WorkerDied: decoding hung or crashed; the child was replaced.
        OSError: it cannot be read.
        CannotPublish: the cache cannot be written.
    """
    with localized(entry.uri) as path, tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        limit_s = limits.for_media(os.path.getsize(path) / SLOW_BYTES_PER_S)
        decoded = run_isolated(
            decode_file, path, folder, sampler, policy, limits.max_duration_s, limit_s=limit_s, workers=workers
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
    try:
        yield decode_video(entry, *options)
    except BAD_INPUT as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise  # every other file would fail in the same way
        failure = Failure(
            stage="extract",
            step="decode",
            error_class=type(error).__name__,
            message=f"{error}{_advice(error)}",
            uri=entry.uri,
            video_id=entry.video_id or "",
        )
        yield beam.pvalue.TaggedOutput("failures", failure)


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
