"""One clock from a file's first packet to its last, where the file's own stamps are missing or start again."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from schemas.video import EvidenceWarning
from transforms.media.container import film_stream, open_media, packets, read_only, sound_streams

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

# Only here do index, seek and timestamps agree; elsewhere files are read from the start.
SEEKABLE = frozenset({"mov", "mp4", "matroska", "webm"})
MATROSKA = frozenset({"matroska", "webm"})
# Bare streams of pictures: no header tells how long they are, and what FFmpeg guesses from the bit rate is nonsense.
BARE = frozenset({"h264", "hevc", "mpegvideo", "obu"})
# These store when a picture is to be decoded, or nothing; when it is to be shown follows from the order of decoding.
DECODE_TIMES = BARE | {"avi", "asf", "rm"}
# Recordings of streams, which reconnect, and are joined with no more than ``cat``.
JOINED = frozenset({"mpegts", "mpeg", "flv"})
# Of those the ones in which a leap forward is another clock and not, as elsewhere, a hole.
LEAPING = frozenset({"mpegts", "mpeg"})
# Streams of one clock lie this close together in the file; a leap beyond it is another clock.
LEAP_S = 10.0
# Times of decoding never fall within a stream; this much is rounding.
SLACK_S = 0.2
# So many packets in a row must agree on another clock; fewer are damaged stamps.
AGREEING = 8


def is_any(container: InputContainer, names: frozenset[str]) -> bool:
    """Whether the container's format is one of those with these names."""
    return not names.isdisjoint(container.format.name.split(","))


@dataclass(frozen=True)
class Clock:
    """How to read the stamps of a file's streams.

    ``shifts`` holds, by the index of the stream, (number of a packet, seconds to add to the stamps from there on).
    ``jumps_s`` are the times, on the mended clock, at which the file's own clock was set anew.
    """

    shifts: Mapping[int, Sequence[tuple[int, float]]] = field(default_factory=dict)
    jumps_s: tuple[float, ...] = ()

    def packets(self, container: InputContainer, stream: Any) -> Iterator[Packet[Any] | None]:
        """All packets of one stream from the start of the file, each with its time as ``pts``; else as ``packets``.

        Where a container stores when pictures are decoded, that is the time; a packet without one follows the packet
        before it.
        """
        infer = stream.type == "video" and is_any(container, DECODE_TIMES)
        if not infer and stream.index not in self.shifts:
            yield from packets(container, stream)
            return
        tick = stream.time_base or Fraction(1, 1000)
        shifts = [(number, round(shift / float(tick))) for number, shift in self.shifts.get(stream.index, ())]
        frame = round(1 / ((infer and stream.average_rate) or 25) / tick)
        due = 0
        for number, packet in enumerate(packets(container, stream)):
            if packet is not None and infer and packet.size:
                packet.pts = due if packet.dts is None else packet.dts
                due = packet.pts + (packet.duration or frame)
            elif packet is not None and shifts and packet.pts is not None:
                at = bisect_right(shifts, number, key=lambda shift: shift[0])
                packet.pts += shifts[at - 1][1] if at else 0
            yield packet


STEADY = Clock()


def read_clock(container: InputContainer, path: str) -> Clock:
    """The clock of the pictures and the sound of the open file at ``path``.

    A file whose clock may be set anew on the way is opened a second time, and read to its end without decoding.
    """
    if not is_any(container, JOINED) and not (is_any(container, MATROSKA) and _holds_more_segments(path)):
        return STEADY
    with open_media(path) as whole:
        film = film_stream(whole, path)
        streams = [*([] if film is None else [film]), *sound_streams(whole, path)]
        if not streams:
            return STEADY
        read_only(whole, *streams)
        tracks = {stream.index: _Track(float(stream.time_base or Fraction(1, 1000))) for stream in streams}
        return _Watch(tracks, is_any(whole, LEAPING)).clock(packets(whole, *streams))


def clock_warnings(clock: Clock, origin_s: float) -> list[EvidenceWarning]:
    """One where the clock is set anew on the way; ``origin_s`` is the time of the first picture."""
    if not clock.jumps_s:
        return []
    places = ", ".join(f"{jump_s - origin_s:.1f}" for jump_s in clock.jumps_s[:5])
    more = ", and more" if len(clock.jumps_s) > 5 else ""
    message = f"the clock of the file is set anew at {places} s{more}; times count on"
    return [EvidenceWarning("decode", "clock jumps", message)]


def _holds_more_segments(path: str) -> bool:
    """Whether a Matroska file goes on after its first segment, or may do so: live ones do not say how long they are."""
    with open(path, "rb") as file:
        head = file.read(4096)
        size = file.seek(0, 2)
    at = head.find(b"\x18\x53\x80\x67") + 4
    if at < 4 or at >= len(head) or head[at] == 0:
        return False
    width = 9 - head[at].bit_length()  # the leading zeros of a variable-size integer say how many bytes it has
    length = int.from_bytes(head[at : at + width]) & ((1 << 7 * width) - 1)
    return length == (1 << 7 * width) - 1 or at + width + length < size


@dataclass
class _Track:
    """What is known of one stream's stamps so far; times in seconds."""

    tick: float
    number: int = -1  # of the packet at hand
    last_s: float | None = None  # the latest stamp that fits, as it stands in the file
    shift_s: float = 0.0
    delay_s: float = 0.0  # from decoding to showing, at the start
    segment: int = 0  # which of the file's clocks it follows
    doubts: list[tuple[int, float]] = field(default_factory=list)  # (packet, stamp) that may be of another clock


class _Watch:
    """Compares each stamp with those before it, in the order of the file."""

    def __init__(self, tracks: dict[int, _Track], leaps: bool) -> None:
        self._tracks, self._leaps = tracks, leaps
        self._segments = [0.0]  # what to add to the stamps of each of the file's clocks
        self._now_s: float | None = None  # the latest time of all streams, mended
        self._shifts: dict[int, list[tuple[int, float]]] = {}
        self._jumps_s: list[float] = []

    def clock(self, unread: Iterator[Packet[Any] | None]) -> Clock:
        """The clock of the file whose packets these are."""
        for packet in unread:
            if packet is None:
                continue
            track = self._tracks[packet.stream.index]
            track.number += 1
            stamp = packet.pts if packet.dts is None else packet.dts
            if track.last_s is None and packet.pts is not None and packet.dts is not None:
                track.delay_s = (packet.pts - packet.dts) * track.tick
            if stamp is not None:
                self._see(packet.stream.index, track, stamp * track.tick)
        return Clock(self._shifts, tuple(self._jumps_s))

    def _see(self, index: int, track: _Track, stamp_s: float) -> None:
        now_s = self._now_s
        if track.last_s is None and now_s is not None:  # a stream that begins late follows the clock of then
            nearest = min(range(len(self._segments)), key=lambda k: abs(stamp_s + self._segments[k] - now_s))
            self._follow(index, track, track.number, nearest)
        if not self._contradicts(track, stamp_s):
            track.doubts.clear()
            self._accept(track, stamp_s)
            return
        if track.doubts and not -SLACK_S <= stamp_s - track.doubts[-1][1] <= LEAP_S:
            track.doubts.clear()
        track.doubts.append((track.number, stamp_s))
        if len(track.doubts) == AGREEING:
            self._set_anew(index, track)

    def _contradicts(self, track: _Track, stamp_s: float) -> bool:
        if track.last_s is not None and stamp_s < track.last_s - SLACK_S:
            return True
        return self._leaps and self._now_s is not None and stamp_s + track.shift_s > self._now_s + LEAP_S

    def _accept(self, track: _Track, stamp_s: float) -> None:
        track.last_s = stamp_s
        now_s = stamp_s + track.shift_s
        self._now_s = now_s if self._now_s is None else max(now_s, self._now_s)

    def _set_anew(self, index: int, track: _Track) -> None:
        """Let a stream follow the clock of its doubtful packets: one that another stream follows already, or a new."""
        first, stamp_s = track.doubts[0]
        last_s = stamp_s if track.last_s is None else track.last_s + track.shift_s
        step_s = track.doubts[1][1] - stamp_s
        due_s = last_s + max(step_s, 0.0)
        later = range(track.segment + 1, len(self._segments))
        segment = next((k for k in later if abs(stamp_s + self._segments[k] - due_s) < LEAP_S), None)
        if segment is None:
            segment = len(self._segments)
            self._segments.append(due_s - stamp_s)
            self._jumps_s.append(due_s + track.delay_s)
        self._follow(index, track, first, segment)
        self._accept(track, track.doubts[-1][1])
        track.doubts.clear()

    def _follow(self, index: int, track: _Track, packet: int, segment: int) -> None:
        track.segment, track.shift_s = segment, self._segments[segment]
        if track.shift_s or index in self._shifts:
            self._shifts.setdefault(index, []).append((packet, track.shift_s))
