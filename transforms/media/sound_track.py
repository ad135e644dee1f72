"""A sound track while it is decoded: its channels mixed to one at 16 kHz, laid on the pictures' clock."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from transforms.media.clock import Clock
from transforms.media.container import UndecodableAudio, read_only
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

if TYPE_CHECKING:
    from av.audio.codeccontext import AudioCodecContext
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# A gap shorter than this is rounding of timestamps, not a hole in the sound.
TOLERANCE = SAMPLE_RATE_HZ // 50
# No speech survives below this rate; a header that gives less lies, and would turn seconds into years of sound.
LOWEST_RATE_HZ = 2_000
# Mean squares, 1 at full scale: what is softer than -60 dB counts as silence.
AUDIBLE = 1e-6
# A mix has this much less energy than a channel (20 dB) only where channels cancel out: FFmpeg's mix of eight takes up
# to 19 dB off one that sounds alone.
CANCELLED = 100
# Levels are taken of every so many decoded frames: a few a second, at an eighth of the work.
MEASURED = 8


class SoundTrack:
    """A sound track of an open file, which nobody else reads.

    ``channel`` is the one to take; without it all are mixed. ``samples`` may be asked once, and what is told of levels
    is true thereafter.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: AudioStream,
        clock: Clock,
        odd_stamps: frozenset[int],
        origin_s: float,
        limit: int,
        channel: int | None = None,
    ) -> None:
        read_only(container, stream)
        if stream.codec_context.sample_rate < LOWEST_RATE_HZ:
            raise UndecodableAudio(f"the audio claims a sample rate of {stream.codec_context.sample_rate} Hz")
        self._unplaced = _forget_custom_layout(stream.codec_context)
        self._container, self._stream, self._clock = container, stream, clock
        self._origin_s, self._channel = origin_s, channel
        self._last_start = limit if clock.jumps_s else min(limit, self._declared_end())
        self._odd_stamps = odd_stamps
        self._mixed = _Level()
        self._channels = _Level()
        self.damaged = 0  # packets that could not be read or decoded

    def samples(self) -> Iterator[Samples]:
        """16 kHz mono samples from the origin on, without holes, in pieces of any length."""
        position: int | None = None  # where the next sample belongs, counted from the origin
        for start, piece in self._pieces():
            if position is None:
                position, tolerance = min(start or 0, 0), 0
            else:
                tolerance = TOLERANCE
            # A start after the end of the file is a broken timestamp; it must not buy hours of silence.
            if start is not None and position + tolerance < start <= self._last_start:
                yield from _silence(start - max(position, 0))
                position = start
            yield piece[max(-position, 0) :]
            position += len(piece)

    @property
    def level(self) -> float:
        """The mean square of the samples, 1 at full scale."""
        return float(self._mixed.mean_square[0]) if self._mixed.count else 0.0

    @property
    def loudest_channel(self) -> int | None:
        """The channel to take in place of a mix in which they cancel out; None where the mix is fine."""
        loudest = int(self._channels.mean_square.argmax()) if self._channels.count else 0
        if not self._channels.count or self._channels.mean_square[loudest] <= max(CANCELLED * self.level, AUDIBLE):
            return None
        return loudest

    def _pieces(self) -> Iterator[tuple[int | None, Samples]]:
        """(where it belongs, samples) of each decoded frame, resampled; the place is None where no stamp tells it."""
        from av.audio.resampler import AudioResampler

        resampler: AudioResampler | None = None
        made_for = None
        for number, (frame, trusted) in enumerate(self._frames()):
            measured = number % MEASURED == 0
            if measured and frame.layout.nb_channels > 1 and self._channel is None:
                self._channels.add(_by_channel(frame))
            mixable = self._mixable(frame)
            kind = (mixable.format.name, mixable.layout.name, mixable.sample_rate)
            if resampler is None or kind != made_for:  # streams may change their format on the way
                yield from ((None, samples_of(rest)) for rest in _flush(resampler))
                resampler, made_for = AudioResampler("s16", "mono", SAMPLE_RATE_HZ), kind
            start = (
                round((frame.time - self._origin_s) * SAMPLE_RATE_HZ) if trusted and frame.time is not None else None
            )
            for resampled in resampler.resample(mixable):
                piece = samples_of(resampled)
                if measured:
                    self._mixed.add((piece[None] / 32768).astype(np.float32))
                yield start, piece
                start = None
        yield from ((None, samples_of(rest)) for rest in _flush(resampler))

    def _mixable(self, frame: AudioFrame) -> AudioFrame:
        """The frame itself where FFmpeg knows its channels' places, else one channel: that to take, or the sum."""
        import av

        if self._channel is None and not self._unplaced and _is_placed(frame.layout.name):
            return frame
        channels = _by_channel(frame)
        if self._channel is None:  # as loud as channels that have nothing in common
            one = np.clip(channels.sum(axis=0) / np.sqrt(np.float32(len(channels))), -1, 1)
        else:
            one = channels[min(self._channel, len(channels) - 1)]
        mono: AudioFrame = av.AudioFrame.from_ndarray(np.ascontiguousarray(one[None]), format="fltp", layout="mono")
        mono.sample_rate, mono.pts, mono.time_base = frame.sample_rate, frame.pts, frame.time_base
        return mono

    def _frames(self) -> Iterator[tuple[AudioFrame, bool]]:
        """Each decoded frame, and whether its time is to be trusted."""
        from av.error import FFmpegError

        for packet in self._clock.packets(self._container, self._stream):
            try:
                frames = self._stream.decode(packet) if packet is not None else None
            except FFmpegError:
                frames = None
            if packet is None or frames is None:
                self.damaged += 1
                continue
            for frame in frames:
                if frame.sample_rate >= LOWEST_RATE_HZ:
                    yield frame, not {packet.pts, frame.pts} & self._odd_stamps

    def _declared_end(self) -> int:
        """One second past the end of the file as its header has it, in samples from the origin."""
        if not self._container.duration or self._container.duration < 0:
            return sys.maxsize
        end_s = ((self._container.start_time or 0) + self._container.duration) / 1e6
        return round((end_s - self._origin_s + 1) * SAMPLE_RATE_HZ)


@dataclass
class _Level:
    """Mean squares of channels over many blocks of samples."""

    squares: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    count: int = 0  # samples a channel

    def add(self, channels: NDArray[np.float32]) -> None:
        """Count in a block, [channels, samples], unless it is broken or has other channels than the first."""
        if not self.count:
            self.squares = np.zeros(len(channels))
        heard = np.clip(channels, -1, 1)
        squares = np.einsum("cn,cn->c", heard, heard)
        if len(squares) == len(self.squares) and np.isfinite(squares).all():
            self.squares += squares
            self.count += channels.shape[1]

    @property
    def mean_square(self) -> NDArray[np.float64]:
        """One a channel."""
        return self.squares / max(self.count, 1)


def samples_of(frame: AudioFrame) -> Samples:
    """The samples of a mono 16-bit frame, [n]."""
    return frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)


def _by_channel(frame: AudioFrame) -> NDArray[np.float32]:
    """The samples of a frame, [channels, n], 1 at full scale."""
    samples: NDArray[Any] = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    level: NDArray[np.float32] = samples.astype(np.float32)
    if samples.dtype.kind == "u":
        level -= 128
    if samples.dtype.kind != "f":
        level /= 2.0 ** (8 * samples.dtype.itemsize - 1)
    return level


@cache
def _is_placed(layout: str) -> bool:
    """Whether FFmpeg knows the places of a layout's channels, or takes the usual ones; not where it lists them."""
    return not any(sign in layout for sign in "+@") and "ambisonic" not in layout


def _forget_custom_layout(codec: AudioCodecContext) -> bool:
    """Replace a layout that holds memory of its own by a plain one, before the first frame; whether it was one.

    PyAV copies the layout of a codec, and of each frame, with the pointer in it, and frees it with each copy: a layout
    with channels that have no standard place would bring down the process. Here the one copy takes the memory with it.
    """
    from av.audio.layout import AudioLayout

    layout = codec.layout
    placed = _is_placed(layout.name)
    if layout.nb_channels:
        codec.layout = AudioLayout(layout.name if placed else f"{layout.nb_channels} channels")
    return not placed


def _flush(resampler: AudioResampler | None) -> list[AudioFrame]:
    """What the resampler still holds back; one that has nothing to convert holds nothing but returns [None]."""
    return [frame for frame in resampler.resample(None) if frame is not None] if resampler else []


def _silence(count: int) -> Iterator[Samples]:
    """``count`` zeros in pieces of at most a second."""
    for offset in range(0, count, SAMPLE_RATE_HZ):
        yield np.zeros(min(SAMPLE_RATE_HZ, count - offset), np.int16)
