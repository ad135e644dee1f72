"""Tiny clips made on the fly; every frame carries its own number as a barcode, a truth that no timestamp can bend."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BITS = 24
Image = NDArray[np.uint8]


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
    draw: Callable[[int, int, int], Image] = picture,
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
