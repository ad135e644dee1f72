"""Tiny clips made on the fly; every frame carries its own number as a barcode, a truth that no timestamp can bend."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS = 24
SMALL = (120, 68)
"""Width and height of clips whose pictures are there to be numbered: a quarter of what they cost to encode."""

Image = NDArray[np.uint8]
Draw = Callable[[int, int, int], Image]  # number, width, height


def draw_barcode(image: Image, number: int) -> Image:
    """``image`` [h, w, 3] with ``number`` at its top left: 24 black or white blocks w/40 wide, lowest bit first."""
    height, width = image.shape[:2]
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], np.uint8) * 255
    image[: height // 12, : BITS * (width // 40)] = np.repeat(bits, width // 40)[None, :, None]
    return image


def read_barcode(image: Image) -> int:
    """The number in a decoded frame, at whatever size it comes."""
    height, width = image.shape[:2]
    row = image[height // 60].mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if row[int((bit + 0.5) * width / 40)] > 127)


def picture(number: int, width: int = 240, height: int = 136) -> Image:
    """A grey gradient that moves with the frame number, below the barcode."""
    ramp = (np.arange(width)[None, :] + np.arange(height)[:, None] + 3 * number) % 256
    return draw_barcode(np.repeat(ramp.astype(np.uint8)[:, :, None], 3, axis=2), number)


def tone(duration_s: float, rate: int = 48_000, hertz: float = 440.0) -> NDArray[np.int16]:
    """A sine at half scale, [n] samples."""
    times = np.arange(round(duration_s * rate)) / rate
    return (16_000 * np.sin(2 * np.pi * hertz * times)).astype(np.int16)


def make_clip(
    path: Path,
    frames: int = 48,
    fps: int = 24,
    size: tuple[int, int] = (240, 136),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts: Iterable[int] | None = None,
    audio: NDArray[np.int16] | None = None,
    audio_rate: int = 48_000,
    audio_codec: str = "aac",
    audio_start_s: float = 0.0,
    rotation: int = 0,
    aspect: Fraction | None = None,
    draw: Draw = picture,
) -> Path:
    """A clip whose container follows from the file's suffix.

    ``pts`` are timestamps in 1/fps seconds, one a frame; without it the frame rate is constant. ``audio`` is mono at
    ``audio_rate``. ``rotation`` writes a display matrix, ``aspect`` a sample aspect ratio.
    """
    stamps = list(pts) if pts is not None else list(range(frames))
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=fps, options=options or {})
        video.width, video.height, video.pix_fmt = size[0], size[1], pix_fmt
        video.codec_context.time_base = Fraction(1, fps)
        video.codec_context.thread_count = 1  # libvpx's threads spin while they wait for each other
        if aspect is not None:
            video.codec_context.sample_aspect_ratio = aspect
        if rotation:
            video.set_display_rotation(rotation)
        sound = None
        if audio is not None:
            sound = out.add_stream(audio_codec, rate=audio_rate, layout="mono")
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if sound is not None:
            for chunk in audio_frames(audio, audio_rate, round(audio_start_s * audio_rate)):
                out.mux(sound.encode(chunk))
            out.mux(sound.encode(None))
    return path


@dataclass(frozen=True)
class Track:
    """One stream of ``make_tracks``: what is encoded, and how."""

    codec: str
    frames: Sequence[av.VideoFrame | av.AudioFrame]
    options: dict[str, str] = field(default_factory=dict)
    is_default: bool = False


def film_frames(
    numbers: Iterable[int], rate: int = 24, size: tuple[int, int] = SMALL, late_ms: int = 0, draw: Draw = picture
) -> list[av.VideoFrame]:
    """Frames with these numbers, shown at number/rate seconds after ``late_ms`` milliseconds."""
    frames = []
    for number in numbers:
        frame = av.VideoFrame.from_ndarray(draw(number, *size), format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = late_ms * rate + number * 1000, Fraction(1, 1000 * rate)
        frame.duration = 1000
        frames.append(frame)
    return frames


def make_tracks(path: Path, *tracks: Track, container: dict[str, str] | None = None) -> Path:
    """A file of any streams, interleaved by time; the container follows from the suffix, its options are given."""
    packets = []
    with av.open(str(path), "w", options=container or {}) as out:
        for track in tracks:
            first = track.frames[0]
            if isinstance(first, av.VideoFrame):
                stream = out.add_stream(track.codec, rate=24, options=track.options)
                stream.width, stream.height = first.width, first.height
                stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
                stream.codec_context.time_base = first.time_base
                stream.codec_context.thread_count = 1
            else:
                stream = out.add_stream(track.codec, rate=first.sample_rate, layout=first.layout.name)
            if track.is_default:
                stream.disposition = av.stream.Disposition.default
            for frame in [*track.frames, None]:
                for packet in stream.encode(frame):
                    if isinstance(first, av.VideoFrame):
                        packet.duration = round(first.duration * first.time_base / packet.time_base)
                    packets.append(packet)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def sound_frames(channels: NDArray[np.int16], rate: int = 48_000, layout: str = "mono") -> list[av.AudioFrame]:
    """``channels`` [channels, n] in blocks of 1024 samples."""
    frames = []
    for offset in range(0, channels.shape[1], 1024):
        block = np.ascontiguousarray(channels[:, offset : offset + 1024].T.reshape(1, -1))
        frame = av.AudioFrame.from_ndarray(block, format="s16", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), offset
        frames.append(frame)
    return frames


def audio_frames(samples: NDArray[np.int16], rate: int, start: int = 0) -> Iterator[av.AudioFrame]:
    """``samples`` [n] in blocks of 1024 with timestamps from ``start`` (in samples)."""
    for offset in range(0, len(samples), 1024):
        frame = av.AudioFrame.from_ndarray(samples[None, offset : offset + 1024], format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), start + offset
        yield frame


def make_audio(path: Path, samples: NDArray[np.int16], rate: int = 16_000, codec: str = "pcm_s16le") -> Path:
    """A sound file, mono, whose container follows from the file's suffix."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        for frame in audio_frames(samples, rate):
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def make_huge_picture_clip(path: Path, side: int = 15_000, announced: int | None = None) -> Path:
    """One white PNG frame of ``side`` x ``side`` grey pixels in a small file; the header may announce another size."""
    packer = zlib.compressobj(1)
    row = b"\0" + b"\xff" * side
    pixels = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("png", rate=1)
        stream.width = stream.height = announced or side
        stream.pix_fmt = "gray"
        packet = av.Packet(png)
        packet.stream, packet.pts, packet.dts, packet.time_base = stream, 0, 0, Fraction(1, 1)
        packet.is_keyframe = True
        out.mux(packet)
    return path


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
