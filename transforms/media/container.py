"""Opening media files that nobody vouches for: what may be opened, and the errors that say why one was refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

# Containers that hold their own streams. Left out on purpose: play lists (hls, dash, concat), which open other files,
# and image sequences (image2), which do so for names such as "%d.jpg".
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,ogg,flv,asf,mxf,rm,ivf,gif,h264,hevc,obu,"
    "mp3,wav,w64,aiff,flac,aac,amr,caf"
)


class MediaError(ValueError):
    """A media file, or one of its streams, that cannot be used; ``reason`` is what the warnings count."""

    reason: ClassVar[str] = "unusable media"
    permanent: ClassVar[bool] = True  # the same bytes stay bad, however often they are tried


class UnreadableMedia(MediaError):
    """The file is no audio or video container that may be opened."""

    reason = "unreadable media"


class NoVideoStream(MediaError):
    """The file holds no video (cover art is none)."""

    reason = "no video stream"


class NoAudioStream(MediaError):
    """The file holds no audio."""

    reason = "no audio stream"


class UndecodableVideo(MediaError):
    """There is a video stream, but not one frame of it can be decoded."""

    reason = "undecodable video"


class UndecodableAudio(MediaError):
    """There is an audio stream, but not one sample of it can be decoded."""

    reason = "undecodable audio"


class FrameTooLarge(MediaError):
    """The pictures are larger than the frame policy allows; none was decoded."""

    reason = "frame too large"


@contextmanager
def open_media(path: str, max_pixels: int = 8192 * 8192) -> Iterator[InputContainer]:
    """Open one local file for reading; no other file and no network address is opened, whatever the file says.

    FFmpeg decodes a first frame of some codecs to learn about them; frames of more than ``max_pixels`` it does not.

    Raises:
        UnreadableMedia: FFmpeg cannot open it, or its container is none of CONTAINERS.
    """
    import av
    from av.error import FFmpegError

    av.logging.set_level(av.logging.PANIC)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(max_pixels)}
    try:
        # "file:" keeps FFmpeg from reading a protocol into a name such as "concat:a.mp4".
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except FFmpegError as error:
        raise UnreadableMedia(
            f"not a media file that can be opened ({error.strerror}); play lists and images are not opened"
        ) from error
    with container:
        yield container


def film_stream(container: InputContainer, path: str) -> VideoStream | None:
    """The video stream of the file at ``path``: the one that FFmpeg rates best; None where there is none.

    Cover art is no video, and a single picture (the thumbnail that cameras put first) is none beside moving ones.
    """
    from av.stream import Disposition

    films = [
        stream
        for stream in container.streams.video
        if stream.codec_context is not None and not stream.disposition & Disposition.attached_pic
    ]
    best = container.streams.best("video")
    films.sort(key=lambda stream: stream is not best)
    if len(films) > 1 and films[0].frames <= 1:
        pictures = _count_pictures(path, [stream.index for stream in films])
        if pictures[films[0].index] < 2:
            return max(films, key=lambda stream: pictures[stream.index])
    return films[0] if films else None


def sound_streams(container: InputContainer, path: str) -> list[AudioStream]:
    """The sound tracks of the file at ``path``, the one that FFmpeg rates best first.

    Of a broadcast of several programmes they are those of the programme that the pictures belong to.
    """
    film = film_stream(container, path)
    picture = container.streams.best("video", related=film)  # the best of its programme: a programme's mark
    tracks = [
        stream
        for stream in container.streams.audio
        if stream.codec_context is not None
        and (film is None or container.streams.best("video", related=stream) is picture)
    ]
    best = container.streams.best("audio", related=film)
    return sorted(tracks, key=lambda stream: stream is not best)


def read_only(container: InputContainer, *streams: Stream) -> None:
    """Switch all other streams off. These decode in one thread: parallel work is spread over files, not within one."""
    from av.stream import Discard

    for stream in container.streams:
        if stream in streams:
            stream.codec_context.thread_count = 1
        elif hasattr(stream, "discard"):
            stream.discard = Discard.all


def _count_pictures(path: str, indices: Sequence[int]) -> dict[int, int]:
    """How many pictures each of these streams holds, counted until the first of them has two."""
    counts = dict.fromkeys(indices, 0)
    with open_media(path) as container:
        films = [container.streams[index] for index in indices]
        read_only(container, *films)
        for packet in packets(container, *films):
            if packet is not None and packet.size:
                counts[packet.stream.index] += 1
                if counts[indices[0]] > 1:
                    break
    return counts


def packets(container: InputContainer, *streams: Any) -> Iterator[Packet[Any] | None]:
    """The packets of these streams from here to the end of the file; a last None where it breaks off in an error."""
    from av.error import FFmpegError

    while True:
        try:
            yield from container.demux(*streams)
            return
        except IndexError:
            continue  # PyAV's word for a packet of a stream that the headers did not announce; it is none of ours
        except FFmpegError:
            yield None
            return
