import re
from pathlib import Path

import numpy as np
import pytest

from transforms.engines.ocr.easyocr import EasyOcr, EasyOcrReader
from transforms.engines.registry import find_engine
from transforms.protocols.engine import EngineError

pytestmark = pytest.mark.filterwarnings("ignore:'pin_memory' argument")


@pytest.fixture(scope="module", autouse=True)
def _easyocr():
    """Imported only where these tests run: it takes seconds."""
    pytest.importorskip("easyocr")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from tests.support.tiny_easyocr import write_weights

    with pytest.MonkeyPatch.context() as monkeypatch:
        yield write_weights(tmp_path_factory.mktemp("easyocr"), monkeypatch)


@pytest.fixture(scope="module")
def reader(weights: Path) -> EasyOcrReader:
    return EasyOcr(model_dir=str(weights), min_confidence=0.0).load()


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    noise = np.random.default_rng(0)
    shapes = [(96, 160), (96, 160), (64, 256), (96, 160)]
    greys = [noise.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]
    return [np.repeat(grey[:, :, None], 3, axis=2) for grey in greys]


def test_real_loading_code_builds_both_networks(reader):
    assert type(reader._reader).__name__ == "Reader"
    assert type(reader._reader.detector).__name__ == "CRAFT"
    assert reader._reader.model_lang == "english"


def test_every_image_gets_its_own_lines(reader, images):
    found = reader.read(images)
    assert len(found) == len(images)
    for boxes in found:
        (line,) = boxes
        assert len(line.text) >= 2
        assert 0.0 <= line.confidence <= 1.0
        assert line.box.right - line.box.left > 0.9
        assert line.box.bottom - line.box.top > 0.9


def test_a_pooled_batch_reads_what_each_image_alone_reads(reader, images):
    alone = [reader.read([image])[0] for image in images]
    pooled = reader.read(images)
    assert [[line.text for line in boxes] for boxes in pooled] == [[line.text for line in boxes] for boxes in alone]
    assert [[line.box for line in boxes] for boxes in pooled] == [[line.box for line in boxes] for boxes in alone]
    for ours, theirs in zip(pooled, alone, strict=True):
        assert ours[0].confidence == pytest.approx(theirs[0].confidence, rel=1e-3, abs=1e-6)


def test_it_reads_what_the_librarys_own_loop_reads(reader, images):
    for image, boxes in zip(images, reader.read(images), strict=True):
        assert [line.text for line in boxes] == [text for _, text, _ in reader._reader.readtext(image)]


def test_no_images_give_no_readings(reader):
    assert reader.read([]) == []


def test_unsure_lines_are_dropped(reader, images):
    strict = EasyOcrReader(reader._reader, min_confidence=1.0)
    assert strict.read(images[:1]) == [[]]


def test_missing_weights_are_an_error_that_names_the_fix(tmp_path):
    with pytest.raises(EngineError, match="download: true") as error:
        EasyOcr(model_dir=str(tmp_path)).load()
    assert "craft_mlt_25k.pth" in str(error.value)


def test_languages_that_no_model_covers_together_are_an_error(weights):
    with pytest.raises(EngineError, match="only compatible with English"):
        EasyOcr(languages=("ja", "ko"), model_dir=str(weights)).load()


def test_a_check_accepts_weights_that_are_there_and_those_that_may_be_fetched(weights, tmp_path):
    EasyOcr(model_dir=str(weights)).check()
    EasyOcr(model_dir=str(tmp_path), download=True).check()


def test_a_check_names_all_weights_that_are_missing(tmp_path):
    with pytest.raises(EngineError, match="download: true") as error:
        EasyOcr(languages=("de",), model_dir=str(tmp_path)).check()
    assert "craft_mlt_25k.pth" in str(error.value)
    assert "latin_g2.pth" in str(error.value)


def test_a_check_refuses_unknown_languages():
    with pytest.raises(EngineError, match="'english' is not known"):
        EasyOcr(languages=("english",), download=True).check()


@pytest.mark.parametrize(
    "languages",
    [
        *[(language,) for language in "en de th ch_tra ch_sim ja ko ta te kn bn as ar hi ru".split()],
        *[(language, "en") for language in "de ja ar ch_sim th kn hi ru".split()],
        *["ja ko", "de ru", "ar fa", "hi de", "ru be", "de fr"],
    ],
)
def test_a_check_chooses_the_model_that_the_library_chooses(languages, tmp_path, monkeypatch):
    languages = tuple(languages.split()) if isinstance(languages, str) else languages
    (tmp_path / "craft_mlt_25k.pth").touch()
    monkeypatch.setattr("easyocr.Reader.getDetectorPath", lambda *_: None)
    with pytest.raises(EngineError) as theirs:
        EasyOcr(languages=languages, model_dir=str(tmp_path)).load()
    with pytest.raises(EngineError) as ours:
        EasyOcr(languages=languages, model_dir=str(tmp_path)).check()
    refused = "only compatible" in str(theirs.value)
    assert ("no model reads" in str(ours.value)) == refused
    if not refused:
        (weights,) = set(re.findall(r"\w+\.pth", str(ours.value)))
        assert weights in str(theirs.value)


def test_the_stamp_names_the_languages_but_not_the_folder():
    assert EasyOcr().stamp() == EasyOcr(model_dir="/elsewhere", download=True).stamp()
    assert EasyOcr().stamp().fingerprint != EasyOcr(languages=("de",)).stamp().fingerprint


def test_a_recipe_can_name_it():
    assert find_engine("ocr", {"engine": "easyocr", "languages": ["de", "en"]}) == EasyOcr(languages=("de", "en"))


def test_options_that_make_no_sense_are_refused():
    with pytest.raises(EngineError, match="min_confidence"):
        find_engine("ocr", {"engine": "easyocr", "min_confidence": 2.0})
