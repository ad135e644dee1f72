"""A file's sound as 16 kHz mono samples on the pictures' clock: written once, read in windows, never held whole."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from schemas.video import EvidenceWarning
from transforms.media.container import NoAudioStream, UndecodableAudio, best_stream, open_media, packets
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

# A gap shorter than this is rounding of timestamps, not a hole in the sound.
TOLERANCE = SAMPLE_RATE_HZ // 50
# A longer step between two packets is a hole in the sound, or a damaged timestamp.
JUMP_S = Fraction(1, 2)
# No speech survives below this rate; a header that gives less lies, and would turn seconds into years of sound.
LOWEST_RATE_HZ = 2_000


def write_audio(
    media_path: str, audio_path: str, origin_s: float, max_duration_s: float
) -> tuple[float, tuple[EvidenceWarning, ...]]:
    """Write the best audio stream of a media file as FLAC (lossless, 16 kHz, mono, 16 bit); its seconds and warnings.

    Sample 0 is at ``origin_s`` on the container's clock (the first picture): what comes before it is dropped, a late
    start and holes are filled with silence. What comes after ``max_duration_s`` is dropped, with a warning.

    Raises:
        UnreadableMedia: no container that may be opened.
        NoAudioStream: it holds no audio.
        UndecodableAudio: not one sample of it can be decoded.
        OSError: the media file cannot be read or ``audio_path`` not be written.
    """
    from av.error import FFmpegError

    limit = round(max_duration_s * SAMPLE_RATE_HZ)
    try:
        odd_stamps = _odd_stamps(media_path)
        with open_media(media_path) as container:
            sound = _Sound(container, origin_s, limit, odd_stamps)
            written, clipped = _write_flac(audio_path, sound.samples(), limit)
    except FFmpegError as error:
        if isinstance(error, OSError):
            raise  # the disk's trouble, not the file's
        raise UndecodableAudio(f"the audio stream cannot be decoded ({error.strerror})") from error
    if not written:
        raise UndecodableAudio(f"not one audio sample can be decoded ({sound.damaged} damaged packets)")
    warnings = []
    if sound.damaged:
        message = f"{sound.damaged} packets of the audio could not be decoded"
        warnings.append(EvidenceWarning("decode", "damaged packets", message))
    if odd_stamps:
        message = f"{len(odd_stamps)} timestamps of the audio contradict the others and were not used"
        warnings.append(EvidenceWarning("decode", "odd timestamps", message))
    if clipped:
        message = f"the audio is longer than {max_duration_s:g} s; the rest was dropped"
        warnings.append(EvidenceWarning("decode", "clipped", message))
    return written / SAMPLE_RATE_HZ, tuple(warnings)


def read_windows(audio_path: str, window_s: float = 30.0) -> Iterator[Samples]:
    """The samples of a file that ``write_audio`` wrote, in windows of ``window_s`` seconds; the last may be shorter."""
    size = round(window_s * SAMPLE_RATE_HZ)
    held = np.zeros(0, np.int16)
    with open_media(audio_path) as container:
        for frame in container.decode(audio=0):
            held = np.concatenate([held, _samples(frame)])
            while len(held) >= size:
                yield held[:size]
                held = held[size:]
    if len(held):
        yield held


class _Sound:
    """One file's best audio stream while it is decoded, resampled and laid on the pictures' clock."""

    def __init__(self, container: InputContainer, origin_s: float, limit: int, odd_stamps: frozenset[int]) -> None:
        stream: AudioStream | None = best_stream(container, "audio")
        if stream is None:
            raise NoAudioStream("the file holds no audio stream")
        if stream.codec_context.sample_rate < LOWEST_RATE_HZ:
            raise UndecodableAudio(f"the audio claims a sample rate of {stream.codec_context.sample_rate} Hz")
        self._container, self._stream = container, stream
        self._origin_s = origin_s
        self._last_start = min(limit, self._declared_end())
        self._odd_stamps = odd_stamps
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

    def _pieces(self) -> Iterator[tuple[int | None, Samples]]:
        """(where it belongs, samples) of each decoded frame, resampled; the place is None where no stamp tells it."""
        from av.audio.resampler import AudioResampler

        resampler: AudioResampler | None = None
        made_for = None
        for frame, trusted in self._frames():
            kind = (frame.format.name, frame.layout.name, frame.sample_rate)
            if resampler is None or kind != made_for:  # streams may change their format on the way
                yield from ((None, _samples(rest)) for rest in _flush(resampler))
                resampler, made_for = AudioResampler("s16", "mono", SAMPLE_RATE_HZ), kind
            start = (
                round((frame.time - self._origin_s) * SAMPLE_RATE_HZ) if trusted and frame.time is not None else None
            )
            for resampled in resampler.resample(frame):
                yield start, _samples(resampled)
                start = None
        yield from ((None, _samples(rest)) for rest in _flush(resampler))

    def _frames(self) -> Iterator[tuple[AudioFrame, bool]]:
        """Each decoded frame, and whether its time is to be trusted."""
        from av.error import FFmpegError

        for packet in packets(self._container, self._stream):
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


def _odd_stamps(path: str) -> frozenset[int]:
    """The timestamps (ticks) of the best audio stream that are at odds with the others, by reading without decoding.

    One damaged stamp would put all sound after it in the wrong place. Sound is stored in time order, so where the
    stamps step back, whole runs of them are left out, as few stamps as let the rest rise.
    """
    stamps = array("q")
    with open_media(path) as container:
        stream: AudioStream | None = best_stream(container, "audio")
        if stream is None:
            return frozenset()
        stamps.extend(p.pts for p in packets(container, stream) if p is not None and p.pts is not None)
        time_base = stream.time_base or Fraction(1, 1000)
    slack, jump = int(TOLERANCE / SAMPLE_RATE_HZ / time_base), int(JUMP_S / time_base)
    if all(stamp >= highest - slack for stamp, highest in zip(stamps, accumulate(stamps, max), strict=True)):
        return frozenset()
    starts = [i for i in range(len(stamps)) if i == 0 or not -slack <= stamps[i] - stamps[i - 1] <= jump]
    runs = [stamps[first:end] for first, end in pairwise([*starts, len(stamps)])]
    trusted = frozenset(stamp for run in _rising(runs, slack) for stamp in run)
    return frozenset(stamps) - trusted


def _rising(runs: Sequence[array[int]], slack: int) -> list[array[int]]:
    """Those runs, of most stamps in all, of which each starts where the one before it ends or later.

    A longest increasing subsequence with weights. The k-th of the candidates is the chain of ``totals[k]`` stamps that
    ends soonest, at ``ends[k]``, with the run ``lasts[k]``; both numbers rise with k.
    """
    ends: list[int] = []
    totals: list[int] = []
    lasts: list[int] = []
    before: list[int] = []  # for each run the one before it in its chain, or -1
    for number, run in enumerate(runs):
        fitting = bisect_right(ends, run[0] + slack)
        before.append(lasts[fitting - 1] if fitting else -1)
        total = len(run) + (totals[fitting - 1] if fitting else 0)
        sooner = bisect_right(ends, run[-1])
        if sooner and totals[sooner - 1] >= total:
            continue
        beaten = slice(bisect_left(ends, run[-1]), bisect_right(totals, total))
        ends[beaten], totals[beaten], lasts[beaten] = [run[-1]], [total], [number]
    chain = []
    number = lasts[-1] if lasts else -1
    while number >= 0:
        chain.append(runs[number])
        number = before[number]
    return chain[::-1]


def _flush(resampler: AudioResampler | None) -> list[AudioFrame]:
    """What the resampler still holds back; one that has nothing to convert holds nothing but returns [None]."""
    return [frame for frame in resampler.resample(None) if frame is not None] if resampler else []


def _silence(count: int) -> Iterator[Samples]:
    """``count`` zeros in pieces of at most a second."""
    for offset in range(0, count, SAMPLE_RATE_HZ):
        yield np.zeros(min(SAMPLE_RATE_HZ, count - offset), np.int16)


def _write_flac(path: str, pieces: Iterator[Samples], limit: int) -> tuple[int, bool]:
    """Write at most ``limit`` samples; how many were written, and whether some were left out."""
    import av

    written, clipped = 0, False
    # Without "bitexact" the file would name the FFmpeg version that wrote it.
    with av.open(path, "w", format="flac", options={"fflags": "+bitexact"}) as file:
        stream = file.add_stream("flac", rate=SAMPLE_RATE_HZ, layout="mono", format="s16")
        for piece in pieces:
            kept = piece[: limit - written]
            clipped = len(kept) < len(piece)
            if len(kept):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(kept[None]), format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = SAMPLE_RATE_HZ, Fraction(1, SAMPLE_RATE_HZ), written
                file.mux(stream.encode(frame))
                written += len(kept)
            if clipped:
                break
        file.mux(stream.encode(None))
    return written, clipped


def _samples(frame: AudioFrame) -> Samples:
    """The samples of a mono 16-bit frame, [n]."""
    return frame.to_ndarray().reshape(-1).astype(np.int16, copy=False)
