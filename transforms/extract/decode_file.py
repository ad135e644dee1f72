"""Decoding one local file into a frame pack and a sound file: the part of decoding that runs in a child process."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from schemas.video import EvidenceWarning, MediaFacts
from transforms.media.audio import write_audio
from transforms.media.container import MediaError, NoVideoStream, UnreadableMedia, best_stream, open_media
from transforms.media.frame_pack import write_frame_pack
from transforms.protocols.engine import Engine, loaded
from transforms.protocols.frames import FramePolicy, SampledFrames

FRAMES_FILE = "frames.parquet"
AUDIO_FILE = "audio.flac"


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """What a file holds; ``frame_count`` is 0 where there are no pictures, ``media.audio_s`` None where no sound."""

    media: MediaFacts
    frame_count: int
    warnings: tuple[EvidenceWarning, ...]


def decode_file(
    sampler: Engine, path: str, sha256: str, folder: str, policy: FramePolicy, max_duration_s: float
) -> DecodedFile:
    """Write FRAMES_FILE and AUDIO_FILE into ``folder``, each where the file has such a stream and it can be decoded.

    ``sha256`` is the hash of the file at ``path``.

    Raises:
        MediaError: neither pictures nor sound can be had.
    """
    try:
        media = MediaFacts(sha256, os.path.getsize(path))
    except OSError as error:
        raise UnreadableMedia(f"the file cannot be read ({error.strerror})") from error
    sampled, no_pictures = _write_frames(path, str(Path(folder) / FRAMES_FILE), sampler, policy)
    origin_s = sampled.origin_s if sampled else 0.0
    warnings = list(sampled.warnings) if sampled else []
    try:
        audio_s, audio_warnings = write_audio(path, str(Path(folder) / AUDIO_FILE), origin_s, max_duration_s)
    except MediaError as no_sound:
        if no_pictures is not None:
            worse = no_sound if isinstance(no_pictures, NoVideoStream) else no_pictures
            raise type(worse)(f"{no_pictures}; {no_sound}") from no_sound
        warnings.append(EvidenceWarning("decode", no_sound.reason, str(no_sound)))
    else:
        container, codec = _sound_facts(path)
        media = replace(media, container=container, duration_s=audio_s, audio_codec=codec, audio_s=audio_s)
        warnings.extend(audio_warnings)
    if no_pictures is not None:
        warnings.append(EvidenceWarning("decode", no_pictures.reason, str(no_pictures)))
    if sampled is None:
        return DecodedFile(media, 0, tuple(warnings))
    media = replace(
        media,
        container=sampled.container,
        duration_s=sampled.duration_s,
        video_codec=sampled.codec,
        width=sampled.width,
        height=sampled.height,
        fps=sampled.fps,
    )
    return DecodedFile(media, len(sampled.frames), tuple(warnings))


def _write_frames(
    path: str, pack: str, sampler: Engine, policy: FramePolicy
) -> tuple[SampledFrames | None, MediaError | None]:
    """The sampled frames, or why there are none."""
    try:
        sampled: SampledFrames = loaded(sampler).sample(path, policy)
    except UnreadableMedia:
        raise  # there is no sound to be had either
    except MediaError as error:
        return None, error
    write_frame_pack(pack, sampled.frames, policy.jpeg_quality)
    return sampled, None


def _sound_facts(path: str) -> tuple[str, str]:
    """Container and codec of the best audio stream."""
    with open_media(path) as container:
        stream = best_stream(container, "audio")
        return container.format.name, stream.codec.canonical_name if stream is not None else ""
