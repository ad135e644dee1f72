"""Decoding videos: each file becomes a Video that refers to its frames and its sound in the cache."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam

from schemas.check import require
from schemas.configuration.section import Section
from schemas.fingerprint import fingerprint
from schemas.losses import Loss
from schemas.video import EngineUse, Evidence, ManifestEntry, Video
from transforms.extract.decode_file import AUDIO_FILE, FRAMES_FILE, PARTS, DecodedFile, Part, decode_file
from transforms.extract.identify import Media, OutOfReach
from transforms.journal.budget import Deferred
from transforms.journal.deciding import step_key, versions
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.ledger import LOSSES, lost
from transforms.media.container import FrameTooLarge, MediaError, NoVideoStream, UndecodableVideo
from transforms.progress import advance
from transforms.protocols.engine import Engine
from transforms.protocols.frames import FramePolicy
from transforms.storage.cache import Cache, CachedFile
from transforms.workers.child_model import run_with_model
from transforms.workers.recorded import WORK, recorded_map
from transforms.workers.sandbox import TimeLimitExceeded, WorkerDied
from transforms.workers.watchdog import Limit

__all__ = ["DecodeVideos", "Decoding", "FrameTooLarge", "Limits", "NoVideoStream", "UndecodableVideo", "decode_video"]

# Part of every key in the cache: raise it when the same file and options give other pixels or samples than before.
FORMAT = 2
# What a bad file can do to decoding. Everything else is the machine's fault or the program's, and stops the run.
BAD_INPUT = (MediaError, TimeLimitExceeded, WorkerDied, MemoryError)  # the last: libraries have their own kinds of it
# The slowest decoding, in bytes of the file a second of CPU time: 40 times the playing speed of a long, small video
# (50 kB/s), and a third of that of a 4K film. Headers are not asked, since a damaged one may promise any length.
DECODED_BYTES_PER_CPU_S = 2_000_000
# What the owner of a file can do about an error, by its class; the first that it is of.
_CHECK = "; check that the file plays, re-encode it, or take it out of the input"
_ROOM = "; re-encode the file (ffmpeg -i IN OUT.mp4) or give the machine more memory"
_ADVICE: Mapping[type[Exception], str] = {
    FrameTooLarge: "; if such frames are meant, raise extract.frames.max_pixels",
    MediaError: _CHECK,
    TimeLimitExceeded: "; if the file plays, raise extract.limits",
    WorkerDied: _ROOM,
    MemoryError: _ROOM,
    PermissionError: "; grant read permission",
}


class Limits(Section, frozen=True):
    """How long native code may work on one video, in seconds of CPU time, of which a busy machine takes no more.

    Speech and text: ``cpu_limit_s`` plus ``cpu_limit_per_media_s`` a second of video. Decoding, which comes before the
    length is known: ``cpu_limit_s`` plus a second for every 2 MB of the file. Besides, it may sleep for
    ``asleep_limit_s``, see ``Limit``. Sound after ``max_duration_s`` is dropped.
    """

    cpu_limit_s: float = 120.0
    cpu_limit_per_media_s: float = 4.0
    asleep_limit_s: float = 600.0
    max_duration_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        for name in ("cpu_limit_s", "asleep_limit_s", "max_duration_s"):
            value = getattr(self, name)
            require(math.isfinite(value) and value > 0, f"{name} must be a number of seconds above 0", value)
        value = self.cpu_limit_per_media_s
        require(math.isfinite(value) and value >= 0, "cpu_limit_per_media_s must be a number of at least 0", value)

    def for_file(self, size: int) -> Limit:
        """The limit for decoding a file of ``size`` bytes."""
        return Limit(self.cpu_limit_s + size / DECODED_BYTES_PER_CPU_S, self.asleep_limit_s)

    def for_media(self, duration_s: float) -> Limit:
        """The limit for a video of this duration."""
        longest_s = min(duration_s, self.max_duration_s)
        return Limit(self.cpu_limit_s + self.cpu_limit_per_media_s * longest_s, self.asleep_limit_s)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What decoding made of a file, and the files that it put into the cache, None where there is no such stream."""

    file: DecodedFile
    frames: CachedFile | None
    audio: CachedFile | None

    @property
    def cached_files(self) -> tuple[CachedFile, ...]:
        """Those that there are."""
        return tuple(file for file in (self.frames, self.audio) if file is not None)


@dataclass(frozen=True)
class Decoding:
    """How videos are decoded, and where what comes of it is kept."""

    sampler: Engine
    policy: FramePolicy
    limits: Limits
    cache: Cache
    journal: Journal
    workers: int = 1


def decode_video(entry: ManifestEntry, options: Decoding) -> Video:
    """Decode the file of ``entry`` in a child process, unless the journal knows what comes of it.

    Frames and sound go to the cache. The id is the manifest's, else it is made from the file's bytes. A file with sound
    only, or pictures only, becomes a Video with a warning.

    Raises:
        RecordedFailure: it holds neither pictures nor sound that can be decoded, or decoding it hung or crashed.
        OutOfReach: the file cannot be read, or changed meanwhile.
        Deferred: this journal only looks, and does not know the file.
        EngineError: the sampler cannot be loaded.
        CannotPublish, CannotJournal: the cache cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        media_file = Media(entry.uri, folder)
        sha256 = media_file.sha256(options.journal)
        decoded = options.journal.once(
            decoding_key(entry.uri, sha256, options),
            lambda: _decode(media_file, sha256, folder, options),
            Decoded,
            failures=BAD_INPUT,
            usable=lambda decoded: all(options.cache.holds(file) for file in decoded.cached_files),
        )
    media = decoded.file.media
    return Video(
        video_id=entry.video_id or f"v-{media.sha256[:16]}",
        uri=entry.uri,
        media=media,
        evidence=Evidence(metadata=entry.metadata),
        frame_pack=decoded.frames.key if decoded.frames else None,
        frame_count=decoded.file.frame_count,
        audio=decoded.audio.key if decoded.audio else None,
        engines=(EngineUse("decode", options.sampler.stamp()),),
        warnings=(*entry.warnings, *decoded.file.warnings),
    )


def decoding_key(uri: str, sha256: str, options: Decoding) -> Key:
    """The key of what comes of a file with these bytes."""
    settings = {
        "frames": fingerprint(options.policy),
        "max_duration_s": str(options.limits.max_duration_s),
        "format": str(FORMAT),
    }
    return step_key("decode", uri, options.sampler.stamp(), settings, {"media": sha256})


def _decode(media_file: Media, sha256: str, folder: str, options: Decoding) -> Decoded:
    """The work itself; ``folder`` is temporary."""
    limits, policy, stamp = options.limits, options.policy, options.sampler.stamp()
    path = media_file.path
    try:
        decoded = _decode_what_can_be(path, sha256, folder, options)
    finally:  # neither a result nor a failure of other bytes must stand under this hash
        media_file.require_unchanged()
    frames = audio = None
    if decoded.frame_count:
        key = _key("frames", ".parquet", sha256, stamp, policy, versions("frames", stamp))
        frames = options.cache.publish(str(Path(folder) / FRAMES_FILE), key)
    if decoded.media.audio_s is not None:
        # Sound starts with the first picture, and where the policy refuses the pictures, with itself.
        alone = () if decoded.frame_count else ("alone",)
        key = _key("audio", ".flac", sha256, stamp, limits.max_duration_s, versions("sound", stamp), *alone)
        audio = options.cache.publish(str(Path(folder) / AUDIO_FILE), key)
    return Decoded(decoded, frames, audio)


def _decode_what_can_be(path: str, sha256: str, folder: str, options: Decoding) -> DecodedFile:
    """Pictures and sound; where that brings down the child, one of them: neither may cost the other."""
    attempts: tuple[tuple[Part, ...], ...] = (PARTS, ("pictures",), ("sound",))
    crashes: list[WorkerDied] = []
    for parts in attempts:
        try:
            return run_with_model(
                decode_file,
                options.sampler,
                path,
                sha256,
                folder,
                options.policy,
                options.limits.max_duration_s,
                parts,
                limit=options.limits.for_file(os.path.getsize(path)),
                workers=options.workers,
            )
        except WorkerDied as died:
            if not died.crashed:  # killed, which says nothing of the file
                raise
            crashes.append(died)
        except MediaError:
            if not crashes:
                raise
    raise crashes[0]


@dataclass
class DecodeVideos(beam.PTransform):
    """ManifestEntry -> Video ("videos") and WORK; files that cannot be decoded, or are left, are "losses"."""

    options: Decoding

    def expand(self, entries: beam.PCollection) -> Any:
        decode = recorded_map(self.options.journal, None, _decode_or_fail, self.options)
        return entries | "Decode" >> decode.with_outputs(LOSSES, WORK, main="videos")


def _decode_or_fail(entry: ManifestEntry, options: Decoding) -> Iterator[Any]:
    try:
        yield decode_video(entry, options)
    except Deferred as deferred:
        advance("decode", "deferred")
        yield lost(Loss("deferred", "extract", "decode", deferred.reason, video_id=entry.video_id or ""))
    except (RecordedFailure, OutOfReach) as error:
        advance("decode", "failed")
        advice = next((advice for kind, advice in _ADVICE.items() if issubclass(error.kind, kind)), "")
        message, video_id = f"{error.message}{advice}", entry.video_id or ""
        yield lost(Loss("failed", "extract", "decode", error.error_class, message, video_id, uri=entry.uri))


def _key(kind: str, suffix: str, *parts: object) -> str:
    """The cache key of a file that follows from ``parts``."""
    name = fingerprint([FORMAT, kind, *parts])
    return f"{kind}/{name[:2]}/{name}{suffix}"
