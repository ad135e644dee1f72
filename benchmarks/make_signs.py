"""Makes the clips of signs in six languages from signs/signs.yaml: ``python -m benchmarks.make_signs``.

Needs the Debian packages fonts-dejavu-core and fonts-noto-cjk, and a Pillow that shapes Arabic (its wheels do).
The clips are committed, so neither tests nor benchmarks run it; the same fonts, Pillow and PyAV give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import yaml
from PIL import Image, ImageDraw, ImageFont

FOLDER = Path(__file__).parent / "signs"
WIDTH, HEIGHT, FPS, SECONDS = 640, 360, 6, 3
MARGIN, TOP, SIZE, LEADING = 36, 64, 30, 50  # pixels
_DEJAVU = ("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf", 0)
_NOTO_CJK = "/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc"
FONTS = {"ko": (_NOTO_CJK, 1), "zh": (_NOTO_CJK, 2)}  # file, face within the collection; DejaVu has all other letters
# Sky, wall of the sign, letters.
COLOURS = (("#7cc0e8", "#15324f", "#ffffff"), ("#f2a176", "#f6efdc", "#2a1740"))


def signs() -> dict[str, list[str]]:
    """The texts of the signs by language (ISO 639)."""
    found: dict[str, list[str]] = yaml.safe_load((FOLDER / "signs.yaml").read_text("utf-8"))
    return found


def clip_path(language: str, number: int) -> Path:
    """The clip that shows a language's sign of that number, from 0."""
    return FOLDER / f"sign_{language}_{number + 1}.mp4"


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """``text`` in lines of at most that many pixels; one without spaces may be parted anywhere."""
    space = " " if " " in text else ""
    first, *others = text.split() if space else [*text]
    lines = [first]
    for unit in others:
        longer = lines[-1] + space + unit
        if font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(unit)
    return lines


def pictures(language: str, number: int, text: str) -> Iterator[Image.Image]:
    """The frames of a clip: a sign that fills most of the picture, and a sun that moves behind it."""
    sky, wall, ink = COLOURS[number % len(COLOURS)]
    path, face = FONTS.get(language, _DEJAVU)
    font = ImageFont.truetype(path, SIZE, index=face)
    to_left = language == "ar"
    for frame in range(FPS * SECONDS):
        picture = Image.new("RGB", (WIDTH, HEIGHT), sky)
        pen = ImageDraw.Draw(picture)
        x = WIDTH * (0.1 + 0.8 * frame / (FPS * SECONDS))
        y = 34 - 12 * math.sin(math.pi * frame / (FPS * SECONDS))
        pen.ellipse([x - 16, y - 16, x + 16, y + 16], fill="#ffd166")
        pen.rounded_rectangle([12, TOP - 16, WIDTH - 12, HEIGHT - 12], 12, fill=wall)
        for row, line in enumerate(wrapped(text, font, WIDTH - 2 * MARGIN)):
            place = (WIDTH - MARGIN if to_left else MARGIN, TOP + row * LEADING)
            pen.text(place, line, ink, font, "ra" if to_left else "la", direction="rtl" if to_left else None)
        yield picture


def encode(path: Path, frames: Iterator[Image.Image]) -> None:
    """Write the file bit-exact for the same version of the encoder."""
    import av

    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as file:
        video = file.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1
        video.options = {"crf": "28", "preset": "veryslow", "tune": "animation"}
        for frame in frames:
            file.mux(video.encode(av.VideoFrame.from_image(frame)))
        file.mux(video.encode())


def main() -> None:
    """Make every clip."""
    for language, texts in signs().items():
        for number, text in enumerate(texts):
            path = clip_path(language, number)
            encode(path, pictures(language, number, text))
            print(f"{path.stat().st_size / 1024:6.1f} KiB  {path.name}")


if __name__ == "__main__":
    main()
