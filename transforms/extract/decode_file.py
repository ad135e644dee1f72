"""Decoding one local file into a frame pack and a sound file: the part of decoding that runs in a child process."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from schemas.video import EvidenceWarning, MediaFacts
from transforms.media.audio import write_audio
from transforms.media.container import (
    MediaError,
    NoVideoStream,
    UndecodableAudio,
    UndecodableVideo,
    UnreadableMedia,
)
from transforms.media.frame_pack import write_frame_pack
from transforms.media.video_stream import on_one_size
from transforms.protocols.engine import Engine, loaded
from transforms.protocols.frames import FramePolicy, SampledFrames

FRAMES_FILE = "frames.parquet"
AUDIO_FILE = "audio.flac"
Part = Literal["pictures", "sound"]
PARTS: tuple[Part, ...] = get_args(Part)


@dataclass(frozen=True, slots=True)
class DecodedFile:
    """What a file holds; ``frame_count`` is 0 where there are no pictures, ``media.audio_s`` None where no sound."""

    media: MediaFacts
    frame_count: int
    warnings: tuple[EvidenceWarning, ...]


def decode_file(
    sampler: Engine,
    path: str,
    sha256: str,
    folder: str,
    policy: FramePolicy,
    max_duration_s: float,
    parts: Collection[Part] = PARTS,
) -> DecodedFile:
    """Write FRAMES_FILE and AUDIO_FILE into ``folder``, each where the file has such a stream and it can be decoded.

    ``sha256`` is the hash of the file at ``path``. A part that is not among ``parts`` counts as one that brings the
    process down.

    Raises:
        MediaError: neither pictures nor sound can be had.
    """
    try:
        media = MediaFacts(sha256, os.path.getsize(path))
    except OSError as error:
        raise UnreadableMedia(f"the file cannot be read ({error.strerror})") from error
    sampled, no_pictures = _write_frames(path, str(Path(folder) / FRAMES_FILE), sampler, policy, "pictures" in parts)
    origin_s = sampled.origin_s if sampled else 0.0
    warnings = list(sampled.warnings) if sampled else []
    try:
        if "sound" not in parts:
            raise UndecodableAudio("decoding the sound brings the process down")
        sound = write_audio(path, str(Path(folder) / AUDIO_FILE), origin_s, max_duration_s)
    except MediaError as no_sound:
        if no_pictures is not None:
            worse = no_sound if isinstance(no_pictures, NoVideoStream) else no_pictures
            raise type(worse)(f"{no_pictures}; {no_sound}") from no_sound
        warnings.append(EvidenceWarning("decode", no_sound.reason, str(no_sound)))
    else:
        media = replace(
            media,
            container=sound.container,
            duration_s=sound.duration_s,
            audio_codec=sound.codec,
            audio_s=sound.duration_s,
        )
        warnings.extend(warning for warning in sound.warnings if warning not in warnings)
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
    path: str, pack: str, sampler: Engine, policy: FramePolicy, wanted: bool
) -> tuple[SampledFrames | None, MediaError | None]:
    """The sampled frames, or why there are none."""
    if not wanted:
        return None, UndecodableVideo("decoding the pictures brings the process down")
    try:
        sampled: SampledFrames = loaded(sampler).sample(path, policy)
    except UnreadableMedia:
        raise  # there is no sound to be had either
    except MediaError as error:
        return None, error
    sizes = sorted({frame.image.shape[1::-1] for frame in sampled.frames})
    if len(sizes) > 1:
        message = f"frames of {', '.join(f'{width} x {height}' for width, height in sizes)} pixels were put on one size"
        warning = EvidenceWarning("decode", "size changes", message)
        sampled = replace(sampled, frames=on_one_size(sampled.frames), warnings=(*sampled.warnings, warning))
    write_frame_pack(pack, sampled.frames, policy.jpeg_quality)
    return sampled, None
