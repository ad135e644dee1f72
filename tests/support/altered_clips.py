"""Copies of a clip as people make them: encoded anew, made smaller, cropped, framed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

Change = Callable[[Image.Image], Image.Image]


def as_it_is(picture: Image.Image) -> Image.Image:
    return picture


def half_size(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2))


def middle(share: float) -> Change:
    """What is left of each side when its margins go."""

    def crop(picture: Image.Image) -> Image.Image:
        x, y = (round(side * (1 - share) / 2) for side in picture.size)
        return picture.crop((x, y, picture.width - x, picture.height - y))

    return crop


def corner(picture: Image.Image) -> Image.Image:
    """A tenth of each side goes at one end."""
    return picture.crop((0, 0, round(0.9 * picture.width), round(0.9 * picture.height)))


def brighter(picture: Image.Image) -> Image.Image:
    return picture.point(lambda value: min(255, round(1.3 * value)))


def letter_box(picture: Image.Image) -> Image.Image:
    """Black bars above and below, an eighth of the new height each."""
    bar = picture.height // 6
    framed = Image.new("RGB", (picture.width, picture.height + 2 * bar))
    framed.paste(picture, (0, bar))
    return framed


def mirrored(picture: Image.Image) -> Image.Image:
    return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def with_logo(picture: Image.Image) -> Image.Image:
    """A white patch over a corner, a sixth by an eighth of the sides."""
    marked = picture.copy()
    marked.paste((255, 255, 255), (picture.width - picture.width // 6, 0, picture.width, picture.height // 8))
    return marked


@dataclass(frozen=True)
class Alteration:
    """How a copy differs: its pictures, its codec, and where in the clip it begins (share of its length)."""

    change: Change = as_it_is
    codec: str = "libx264"
    options: Mapping[str, str] = field(default_factory=lambda: {"preset": "veryfast"})
    begins: float = 0.0


ALTERATIONS: Mapping[str, Alteration] = {
    "another codec (VP9, crf 40)": Alteration(
        codec="libvpx-vp9", options={"deadline": "realtime", "cpu-used": "8", "crf": "40", "b": "0"}
    ),
    "crf 40": Alteration(options={"preset": "veryfast", "crf": "40"}),
    "half size": Alteration(half_size),
    "middle 90 %": Alteration(middle(0.9)),
    "middle 80 %": Alteration(middle(0.8)),
    "corner 90 %": Alteration(corner),
    "30 % brighter": Alteration(brighter),
    "logo": Alteration(with_logo),
    "letter-box": Alteration(letter_box),
    "mirror": Alteration(mirrored),
    "first 5 % cut off": Alteration(begins=0.05),
}


def write_copy(source: Path, target: Path, alteration: Alteration, every: int = 1) -> Path:
    """The pictures of ``source`` in a new file, ``every`` so many of them, without sound."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        film = given.streams.video[0]
        begins_s = alteration.begins * given.duration / 1e6
        stream = None
        for number, frame in enumerate(given.decode(film)):
            if number % every or frame.time < begins_s:
                continue
            picture = alteration.change(frame.to_image())
            picture = picture.crop((0, 0, picture.width // 2 * 2, picture.height // 2 * 2))  # yuv420p has no odd sides
            if stream is None:
                rate = film.average_rate / every
                stream = out.add_stream(alteration.codec, rate=rate, options=dict(alteration.options))
                stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
                stream.codec_context.time_base = Fraction(1, 1000)
            encoded = av.VideoFrame.from_image(picture)
            encoded.pts, encoded.time_base = round((frame.time - begins_s) * 1000), Fraction(1, 1000)
            out.mux(stream.encode(encoded))
        out.mux(stream.encode(None))
    return target


def write_beginning(source: Path, target: Path, seconds: float) -> Path:
    """The first seconds of a clip, as they are encoded."""
    with av.open(str(source)) as given, av.open(str(target), "w") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in given.streams}
        for packet in given.demux():
            if packet.dts is not None and packet.dts * packet.time_base < seconds:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)
    return target
