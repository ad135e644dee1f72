"""Opening media files that nobody vouches for: what may be opened, and the errors that say why one was refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

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


def best_stream(container: InputContainer, kind: Literal["video", "audio"]) -> Any | None:
    """The stream of this kind that FFmpeg rates best, the others switched off; None where there is none.

    Cover art is no video. The stream decodes in one thread: parallel work is spread over files, not within one.
    """
    from av.stream import Discard, Disposition

    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    for other in container.streams:
        if other is not stream and hasattr(other, "discard"):
            other.discard = Discard.all
    stream.codec_context.thread_count = 1
    return stream


def packets(container: InputContainer, stream: Any) -> Iterator[Packet[Any] | None]:
    """The packets of one stream from here to the end of the file; a last None where the file breaks off in an error."""
    from av.error import FFmpegError

    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:
            continue  # PyAV's word for a packet of a stream that the headers did not announce; it is none of ours
        except FFmpegError:
            yield None
            return
