"""A file's sound as 16 kHz mono samples on the pictures' clock: written once, read in windows, never held whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from schemas.video import EvidenceWarning
from transforms.media.clock import Clock, clock_warnings, read_clock
from transforms.media.container import MediaError, NoAudioStream, UndecodableAudio, open_media, sound_streams
from transforms.media.odd_stamps import odd_stamps
from transforms.media.sound_track import AUDIBLE, SoundTrack, samples_of
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples


@dataclass(frozen=True, slots=True)
class WrittenAudio:
    """What ``write_audio`` wrote: its seconds, where it comes from, and a warning for each thing that is partial."""

    duration_s: float
    container: str
    codec: str
    level: float  # mean square, 1 at full scale
    warnings: tuple[EvidenceWarning, ...]


def write_audio(media_path: str, audio_path: str, origin_s: float, max_duration_s: float) -> WrittenAudio:
    """Write the sound of a media file as FLAC (lossless, 16 kHz, mono, 16 bit).

    Of several tracks it is the first in which something can be heard. Sample 0 is at ``origin_s`` on the container's
    clock (the first picture): what comes before it is dropped, a late start and holes are filled with silence. What
    comes after ``max_duration_s`` is dropped, with a warning.

    Raises:
        UnreadableMedia: no container that may be opened.
        NoAudioStream: it holds no audio.
        UndecodableAudio: not one sample of it can be decoded.
        OSError: the media file cannot be read or ``audio_path`` not be written.
    """
    with open_media(media_path) as container:
        tracks = [stream.index for stream in sound_streams(container, media_path)]
        clock = read_clock(container, media_path)
    writer = _Writer(media_path, audio_path, clock, origin_s, round(max_duration_s * SAMPLE_RATE_HZ))
    written: dict[int, WrittenAudio] = {}
    failures: list[MediaError] = [NoAudioStream("the file holds no audio stream")] if not tracks else []
    last = -1
    for last in tracks:
        try:
            written[last] = writer.write(last)
        except UndecodableAudio as error:
            failures.append(error)
            continue
        if written[last].level > AUDIBLE:
            break
    if not written:
        raise failures[0]
    used = max(written, key=lambda track: written[track].level)
    if used != last:  # all are silent, more or less
        written[used] = writer.write(used)
    if len(tracks) == 1:
        return written[used]
    message = f"the file holds {len(tracks)} sound tracks; the one used is number {sorted(tracks).index(used) + 1}"
    several = EvidenceWarning("decode", "several sound tracks", message)
    return replace(written[used], warnings=(*written[used].warnings, several))


@dataclass(frozen=True)
class _Writer:
    """Writes tracks of one media file, each over the one before it."""

    media_path: str
    audio_path: str
    clock: Clock
    origin_s: float
    limit: int  # samples

    def write(self, track: int) -> WrittenAudio:
        """Write the track with this index: its channels mixed, or one of them where the mix would lose the sound."""
        from av.error import FFmpegError

        try:
            odd = odd_stamps(self.media_path, track, self.clock)
            written, channel = self._write(track, odd, None)
            if channel is None:
                return written
            written, _ = self._write(track, odd, channel)
        except FFmpegError as error:
            if isinstance(error, OSError):
                raise  # the disk's trouble, not the file's
            raise UndecodableAudio(f"the audio stream cannot be decoded ({error.strerror})") from error
        message = f"a mix of the audio's channels loses most of the sound; number {channel + 1} was used alone"
        return replace(written, warnings=(*written.warnings, EvidenceWarning("decode", "one channel used", message)))

    def _write(self, track: int, odd: frozenset[int], channel: int | None) -> tuple[WrittenAudio, int | None]:
        """What was written, and the channel that should have been."""
        with open_media(self.media_path) as container:
            stream = container.streams.audio[[s.index for s in container.streams.audio].index(track)]
            sound = SoundTrack(container, stream, self.clock, odd, self.origin_s, self.limit, channel)
            written, clipped = _write_flac(self.audio_path, sound.samples(), self.limit)
            if not written:
                raise UndecodableAudio(f"not one audio sample can be decoded ({sound.damaged} damaged packets)")
            codec, name = stream.codec.canonical_name, container.format.name
        warnings = []
        if sound.damaged:
            message = f"{sound.damaged} packets of the audio could not be decoded"
            warnings.append(EvidenceWarning("decode", "damaged packets", message))
        if odd:
            message = f"{len(odd)} timestamps of the audio contradict the others and were not used"
            warnings.append(EvidenceWarning("decode", "odd timestamps", message))
        if clipped:
            message = f"the audio is longer than {self.limit / SAMPLE_RATE_HZ:g} s; the rest was dropped"
            warnings.append(EvidenceWarning("decode", "clipped", message))
        warnings.extend(clock_warnings(self.clock, self.origin_s))
        duration_s = written / SAMPLE_RATE_HZ
        return WrittenAudio(duration_s, name, codec, sound.level, tuple(warnings)), sound.loudest_channel


def read_windows(audio_path: str, window_s: float = 30.0) -> Iterator[Samples]:
    """The samples of a file that ``write_audio`` wrote, in windows of ``window_s`` seconds; the last may be shorter."""
    size = round(window_s * SAMPLE_RATE_HZ)
    held = np.zeros(0, np.int16)
    with open_media(audio_path) as container:
        for frame in container.decode(audio=0):
            held = np.concatenate([held, samples_of(frame)])
            while len(held) >= size:
                yield held[:size]
                held = held[size:]
    if len(held):
        yield held


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
