"""OCR with Tesseract, a program of the machine: it has trained data for the letters of a hundred languages."""

from __future__ import annotations

import csv
import functools
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from PIL import Image as PillowImage

from schemas.fingerprint import sha256_file
from schemas.video import Box, EngineStamp
from transforms.engines.ocr.text_boxes import reading_order, upright_box
from transforms.protocols.engine import EngineError, stamp_of
from transforms.protocols.frames import Image
from transforms.protocols.screen_text import TextBox

_PROGRAM = "tesseract"
_INSTALL = "apt-get install tesseract-ocr, and tesseract-ocr-ara and the like for languages"
_DPI = "150"  # a frame says none, and what Tesseract guesses in its place depends on what it finds
_WORD = "5"  # the level of a row of the table that is a word
_NO_TEXT_MODES = (0, 2)  # page modes that read nothing
# Codes that people bring from elsewhere: ISO 639-1, and those of easyocr.
_ITS_NAMES = {
    "ar": "ara", "ch_sim": "chi_sim", "ch_tra": "chi_tra", "de": "deu", "en": "eng", "es": "spa", "fr": "fra",
    "hi": "hin", "it": "ita", "ja": "jpn", "ko": "kor", "pt": "por", "ru": "rus", "zh": "chi_sim",
}  # fmt: skip
# Tesseract takes each ideograph or two for a word; no space parts them.
_BETWEEN_IDEOGRAPHS = re.compile(r"(?<=[\u3040-\u30ff\u3400-\u9fff]) (?=[\u3040-\u30ff\u3400-\u9fff])")


@dataclass(frozen=True)
class Tesseract:
    """Options of Tesseract.

    ``languages`` are the names of its trained data (``eng``, ``chi_sim``); all are tried on every line, which costs
    time and, of Korean, letters. ``page_mode`` is its ``--psm``: 3 finds blocks of text, 6 takes a frame for one, 11
    also finds words that stand alone and misses lines of a block. Lines whose words have less than ``min_confidence``
    on average are dropped.
    """

    languages: tuple[str, ...] = ("eng",)
    page_mode: int = 3
    min_confidence: float = 0.6

    requires: ClassVar[tuple[str, ...]] = ()
    programs: ClassVar[Mapping[str, str]] = {_PROGRAM: _INSTALL}
    extra: ClassVar[str] = ""

    def __post_init__(self) -> None:
        if not self.languages or any(not re.fullmatch(r"[\w/-]+", name) for name in self.languages):
            raise ValueError(f"languages must be names of trained data such as eng, got {list(self.languages)}")
        if not 0 < self.page_mode <= 13 or self.page_mode in _NO_TEXT_MODES:
            raise ValueError(f"page_mode must be 1 or 3 to 13, got {self.page_mode}")
        if not 0.0 <= self.min_confidence <= 1.0:
            raise ValueError(f"min_confidence must lie in [0, 1], got {self.min_confidence}")

    def check(self) -> None:
        """That the program and the trained data of each language are there.

        Raises:
            EngineError: the program is not there, or it has no data of a language.
        """
        trained_data(self.languages)

    def load(self) -> TesseractReader:
        """Check program and data; Tesseract itself reads them for every video."""
        self.check()
        return TesseractReader(self)

    def stamp(self) -> EngineStamp:
        """Name and options; program and trained data stand for a model."""
        return stamp_of(self, _PROGRAM, "", f"{program_version()}, {trained_data(self.languages)}")


class TesseractReader:
    """Tesseract as a ``TextReader``."""

    def __init__(self, options: Tesseract) -> None:
        self._options = options

    def read(self, images: Sequence[Image]) -> list[list[TextBox]]:
        """The lines of each RGB image [height, width, 3], in reading order; single characters are dropped.

        One call of the program reads all images, for reading the trained data takes as long as a few of them.
        """
        if not images:
            return []
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, f"{number}.png") for number in range(len(images))]
            for path, image in zip(paths, images, strict=True):
                PillowImage.fromarray(image).save(path, compress_level=1)
            listed = Path(folder, "images.txt")
            listed.write_text("\n".join(paths) + "\n", encoding="utf-8")
            options = ["-l", "+".join(self._options.languages), "--psm", str(self._options.page_mode), "--dpi", _DPI]
            table = _run([str(listed), "stdout", *options, "tsv"])
        return [
            reading_order(
                line
                for line in lines_of(table, page, image.shape[1], image.shape[0])
                if line.confidence >= self._options.min_confidence and len(line.text) >= 2
            )
            for page, image in enumerate(images, start=1)
        ]


def lines_of(table: str, page: int, width: int, height: int) -> list[TextBox]:
    """The lines of one page (from 1, of that size in pixels) of Tesseract's TSV; a confidence is the mean of words."""
    rows = csv.DictReader(table.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    words = [row for row in rows if row["page_num"] == str(page) and row["level"] == _WORD and row["text"].strip()]
    lines = []
    for _, group in groupby(words, key=lambda row: (row["block_num"], row["par_num"], row["line_num"])):
        line = list(group)
        text = _BETWEEN_IDEOGRAPHS.sub("", " ".join(row["text"].strip() for row in line))
        confidence = sum(float(row["conf"]) for row in line) / len(line) / 100
        lines.append(TextBox(text, _around(line, width, height), min(max(confidence, 0.0), 1.0)))
    return lines


def _around(words: Sequence[Mapping[str, str]], width: int, height: int) -> Box:
    corners = []
    for word in words:
        left, top = int(word["left"]), int(word["top"])
        corners += [(left, top), (left + int(word["width"]), top + int(word["height"]))]
    return upright_box(corners, width, height)


@functools.cache
def program_version() -> str:
    """What ``tesseract --version`` says of itself, as 5.3.0."""
    first, _, _ = _run(["--version"]).partition("\n")
    return first.removeprefix(f"{_PROGRAM} ").strip()


@functools.cache
def trained_data(languages: tuple[str, ...]) -> str:
    """The languages with a hash of what each was trained to, as "eng 1f3a9c27, kor 90be1a2d".

    Raises:
        EngineError: the program is not there, has no data of a language, or does not say where they are.
    """
    try:
        first, *listed = _run(["--list-langs"]).splitlines() or [""]
    except RuntimeError as error:
        raise EngineError(f"ocr engine 'tesseract': {error}; {_INSTALL}") from error
    if missing := [name for name in languages if name not in listed]:
        named = ", ".join(f"{name}{_hint(name, listed)}" for name in missing)
        raise EngineError(
            f"ocr engine 'tesseract': no trained data for {named} (it has {', '.join(listed) or 'none'}); {_INSTALL}"
        )
    folder = _folder(first, languages[0])
    files = [folder / f"{name}.traineddata" for name in languages]
    return ", ".join(f"{name} {sha256_file(file)[:8]}" for name, file in zip(languages, files, strict=True))


def _hint(name: str, listed: Sequence[str]) -> str:
    """`` (did you mean eng?)`` of a code that is none of Tesseract's."""
    meant = _ITS_NAMES.get(name) or next(iter(get_close_matches(name, listed, n=1)), "")
    return f" (did you mean {meant}?)" if meant else ""


def _folder(first: str, language: str) -> Path:
    """Where its trained data lie: the first line of the list says it from Tesseract 5 on, TESSDATA_PREFIX before.

    Raises:
        EngineError: neither does.
    """
    if said := re.search(r'"(.+)"', first):
        return Path(said[1])
    prefix = os.environ.get("TESSDATA_PREFIX", "")
    for folder in (Path(prefix), Path(prefix, "tessdata")):
        if prefix and (folder / f"{language}.traineddata").is_file():
            return folder
    raise EngineError(
        f"ocr engine 'tesseract': this is Tesseract {program_version()}, which does not say where its trained data "
        "are: Tesseract 5 is needed, or the variable TESSDATA_PREFIX with their folder"
    )


def _run(arguments: Sequence[str]) -> str:
    """What the program writes to its standard output.

    Raises:
        EngineError: it is not there.
        RuntimeError: it says that something is wrong.
    """
    one_thread = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run([_PROGRAM, *arguments], capture_output=True, check=True, env=one_thread)
    except FileNotFoundError as error:
        raise EngineError(f"ocr engine 'tesseract' needs the program {_PROGRAM!r}: {_INSTALL}") from error
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines()
        raise RuntimeError(f"{_PROGRAM} ended with {error.returncode}: {' '.join(said[-2:])}") from error
    return done.stdout.decode("utf-8", "replace")
