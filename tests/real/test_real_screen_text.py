"""Published weights of easyocr and Tesseract on pictures whose text is known: ``make test-real``."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from benchmarks.make_signs import clip_path, signs
from tests.support import real_weights
from tests.support.error_rates import character_error_rate
from transforms.engines.ocr.easyocr import EasyOcr, EasyOcrReader
from transforms.engines.ocr.tesseract import Tesseract
from transforms.engines.pyav import PyAv
from transforms.extract.recognize import read_text
from transforms.protocols.frames import FramePolicy

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore:'pin_memory' argument")]

# Clips of one shot, with Latin letters.
CLIPS = ("flood_valdoro_3", "launch_kestrel_3", "tram_linden_1", "tram_linden_2")
TRAINED = {"ar": "ara", "en": "eng", "es": "spa", "ko": "kor", "ru": "rus", "zh": "chi_sim"}
PHOTOTEST = (
    "This is a lot of 12 point text to test the ocr code and see if it works on all types of file format. "
    + "The quick brown dog jumped over the lazy fox. " * 4
)
EUROTEXT = (
    "The (quick) [brown] {fox} jumps! Over the $43,456.78 <lazy> #90 dog & duck/goose, as 12.5% of E-mail from "
    "aspammer@website.com is spam."
)
EUROTEXT_ENGLISH = 0.36  # of the picture's height: below, it is in other languages


@pytest.fixture(scope="module")
def reader() -> EasyOcrReader:
    engine = EasyOcr(model_dir=str(real_weights.easyocr()))
    engine.check()
    return engine.load()


def text_in(reader: EasyOcrReader, image: Any) -> str:
    (lines,) = reader.read([np.asarray(image.convert("RGB"))])
    return " ".join(line.text for line in lines)


def test_signs_and_captions_of_the_sample_corpus_are_read(reader: EasyOcrReader, samples: Path, record_property):
    script = {clip["name"]: clip for clip in yaml.safe_load((samples / "corpus.yaml").read_text("utf-8"))["clips"]}
    rates = []
    for name in CLIPS:
        (shot,) = script[name]["shots"]
        sampled = PyAv().load().sample(str(samples / f"videos/{name}.mp4"), FramePolicy(max_frames=3))
        (lines,) = reader.read([sampled.frames[1].image])
        for written in (*shot.get("labels", ()), *shot.get("caption", ())):
            rates.append(min(character_error_rate(written, read) for read in ["", *(line.text for line in lines)]))
    record_property("character error rate", f"{fmean(rates):.3f}")

    assert fmean(rates) < 0.2


def test_a_printed_page_is_read(reader: EasyOcrReader, extra_media: Path, record_property):
    read = text_in(reader, Image.open(extra_media / "images/tess_phototest.tif"))
    rate = character_error_rate(PHOTOTEST, read)
    record_property("character error rate", f"{rate:.3f}")

    assert rate < 0.05, read


def test_a_scan_full_of_marks_is_mostly_read(reader: EasyOcrReader, extra_media: Path, record_property):
    page = Image.open(extra_media / "images/tess_eurotext.tif")
    read = text_in(reader, page.crop((0, 0, page.width, int(EUROTEXT_ENGLISH * page.height))))
    rate = character_error_rate(EUROTEXT, read)
    record_property("character error rate", f"{rate:.3f}")

    assert rate < 0.25, read


@pytest.mark.parametrize("language", sorted(TRAINED))
def test_tesseract_reads_the_letters_of_six_languages(language: str, record_property):
    engine = Tesseract(languages=(TRAINED[language],), page_mode=6)
    engine.check()
    rates = []
    for number, written in enumerate(signs()[language]):
        sampled = PyAv().load().sample(str(clip_path(language, number)), FramePolicy(max_frames=3))
        read = " ".join(line.text for line in read_text(engine, sampled.frames))
        rates.append(character_error_rate(*("".join(text.split()) for text in (written, read))))
    record_property("character error rate", f"{fmean(rates):.3f}")

    assert fmean(rates) < 0.1
