"""Finding the frame shown at a time for little work: seek where seeks are trusted, skip what nobody refers to."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING

from transforms.media.clock import DECODE_TIMES, SEEKABLE, is_any
from transforms.media.container import packets
from transforms.media.video_stream import VideoFile

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# A seek that lands after its target is repeated this much earlier, and at last from the start.
RETREATS_S = (0, 2, 8, 32)
# How many packets ahead to look for a later frame that makes this one needless; B-frames are reordered by far fewer.
LOOK_AHEAD = 20


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded frame and its timestamp, in ticks of the stream; frames without one are never handed out."""

    pts: int
    frame: VideoFrame


class FrameReader:
    """Frames of one open file by timestamp; ask ``first`` once, then rising times.

    ``damaged`` counts the packets that could not be read or decoded, ``flawed`` the pictures with parts made up.
    """

    def __init__(self, video: VideoFile) -> None:
        self._container, self._stream, self._clock = video.container, video.stream, video.clock
        self._codec = video.stream.codec_context
        self._ticks_per_s = 1 / video.time_base
        # Where the file's clock is set anew, or counts decoding, a time is found only by decoding up to it.
        one_clock = is_any(video.container, SEEKABLE) and not video.clock.jumps_s
        self._keys = self._keyframes() if one_clock else []
        # There: a heap of the times of pictures that were read and are yet to be shown.
        self._due: list[int] | None = [] if is_any(video.container, DECODE_TIMES) else None
        self._start = min([self._stream.start_time or 0, *self._keys[:1]])
        self._target: int | None = None
        self._shown: Decoded | None = None  # the last frame not after the target
        self._ahead: Decoded | None = None  # the first frame after it
        self.damaged = self.flawed = 0
        self._frames = self._decode()

    def first(self) -> Decoded | None:
        """The first frame that can be decoded."""
        self._shown = next(self._frames, None)
        return self._shown

    def at(self, pts: int) -> Decoded | None:
        """The last frame with a timestamp of at most ``pts``, else the next one after it; None where there is none."""
        self._target = pts
        if self._ahead is not None and self._ahead.pts <= pts:
            self._shown, self._ahead = self._ahead, None
        if self._seek_pays(pts):
            for retreat_s in RETREATS_S:
                self._seek(pts - int(retreat_s * self._ticks_per_s))
                if self._advance(pts):
                    return self._shown
            self._seek(self._start)
        self._advance(pts)
        return self._shown or self._ahead

    @property
    def ended(self) -> bool:
        """Whether no frame follows the one that ``at`` returned last."""
        return self._ahead is None

    def keyframe_near(self, pts: int, tolerance: int) -> Decoded | None:
        """The keyframe nearest to ``pts``, decoded alone; None where none is within ``tolerance``, or it is damaged."""
        from av.error import FFmpegError

        i = bisect_right(self._keys, pts)
        key = min(self._keys[max(i - 1, 0) : i + 1], key=lambda key: abs(key - pts), default=None)
        if key is None or len(self._keys) < 2 or abs(key - pts) > tolerance:
            return None
        self._seek(key)
        frames: list[VideoFrame] = []
        try:
            for packet in packets(self._container, self._stream):
                if packet is not None and packet.is_keyframe and packet.size:
                    frames = self._codec.decode(packet) or self._codec.decode(None)
                    break
        except FFmpegError:
            self.damaged += 1
        self._codec.flush_buffers()
        return next(_timed(frames), None)

    def _seek_pays(self, pts: int) -> bool:
        """Whether a keyframe lies between here and ``pts``, so that what comes before it need not be decoded."""
        if self._ahead is not None or len(self._keys) < 2:
            return False
        key = self._keys[max(bisect_right(self._keys, pts) - 1, 0)]
        return self._shown is None or key > self._shown.pts

    def _seek(self, pts: int) -> None:
        from av.error import FFmpegError

        try:
            # With the target's own time: by a keyframe's decode time one would land a group of pictures too early.
            self._container.seek(max(pts, self._start), stream=self._stream, backward=True)
        except FFmpegError:
            self._container.seek(self._start, stream=self._stream, backward=True)
        self._shown = self._ahead = None
        self._frames = self._decode()

    def _advance(self, pts: int) -> bool:
        """Decode up to the first frame after ``pts``; whether there is a frame not after it."""
        while self._ahead is None and (decoded := next(self._frames, None)) is not None:
            if decoded.pts <= pts:
                self._shown = decoded
            else:
                self._ahead = decoded
        return self._shown is not None

    def _decode(self) -> Iterator[Decoded]:
        """Frames from the current position on, without the non-reference frames that the target makes needless."""
        from av.error import FFmpegError

        unread = self._clock.packets(self._container, self._stream)
        queue = deque(islice(unread, LOOK_AHEAD))
        while queue:
            packet = queue.popleft()
            queue.extend(islice(unread, 1))
            if packet is None:
                self.damaged += 1
                continue
            self._codec.skip_frame = "NONREF" if self._is_needless(packet, queue) else "DEFAULT"
            if self._due is not None and packet.pts is not None:
                heappush(self._due, packet.pts)
            try:
                frames = self._codec.decode(packet)
            except FFmpegError:
                self.damaged += 1
                continue
            self.flawed += sum(frame.is_corrupt for frame in frames)
            yield from _timed(frames) if self._due is None else self._in_order(frames, self._due)

    def _in_order(self, frames: Iterable[VideoFrame], due: list[int]) -> Iterator[Decoded]:
        """Frames with the time at which they are shown, where their own ``pts`` is when they were to be decoded.

        Decoders give frames in the order of showing, so each is due at the earliest of the times not yet taken. No
        picture from before a keyframe is shown after it: times that are left over belonged to damaged pictures.
        """
        for frame in frames:
            settled = frame.key_frame or not self._codec.has_b_frames
            while settled and frame.pts is not None and len(due) > 1 and due[0] < frame.pts:
                heappop(due)
            if due:
                yield Decoded(heappop(due), frame)

    def _is_needless(self, packet: Packet[VideoStream], later: Iterable[Packet[VideoStream] | None]) -> bool:
        """Whether a frame that follows is shown at the target in place of this one; holds for any frame rate."""
        target, pts = self._target, packet.pts
        if target is None or pts is None or pts >= target or self._due is not None:
            return False
        return any(other is not None and other.pts is not None and pts < other.pts <= target for other in later)

    def _keyframes(self) -> list[int]:
        """Presentation times of the keyframes from the container's index alone, rising."""
        from av.error import FFmpegError

        if len(self._stream.index_entries) <= 1:  # Matroska reads its index on the first seek
            for pts in (1 << 40, self._stream.start_time or 0):
                try:
                    self._container.seek(pts, stream=self._stream)
                except FFmpegError:
                    continue
        entries = list(self._stream.index_entries)
        if not entries:
            return []
        delay = max((self._stream.start_time or 0) - entries[0].timestamp, 0)  # MP4 indexes decode times
        return sorted(entry.timestamp + delay for entry in entries if entry.is_keyframe)


def _timed(frames: Iterable[VideoFrame]) -> Iterator[Decoded]:
    return (Decoded(frame.pts, frame) for frame in frames if frame.pts is not None)
