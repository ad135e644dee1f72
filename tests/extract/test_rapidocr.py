import av
import numpy as np
import pytest
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from benchmarks.make_signs import clip_path, signs
from tests.support.error_rates import character_error_rate
from transforms.engines.ocr.rapidocr import RapidOcr
from transforms.engines.registry import find_engine
from transforms.protocols.engine import EngineError


@pytest.fixture(scope="module")
def reader():
    return RapidOcr().load()


def drawn(*lines: tuple[str, tuple[int, int]], size: int = 28) -> np.ndarray:
    picture = PillowImage.new("RGB", (640, 360), "white")
    for text, corner in lines:
        ImageDraw.Draw(picture).text(corner, text, fill="black", font=ImageFont.load_default(size))
    return np.asarray(picture)


def frames_at(path, times_s: list[float], max_side: int = 768) -> list[np.ndarray]:
    images = []
    with av.open(str(path)) as container:
        for time_s in times_s:
            container.seek(int(time_s * 1_000_000))
            picture = next(frame for frame in container.decode(video=0) if frame.time >= time_s).to_image()
            picture.thumbnail((max_side, max_side))
            images.append(np.asarray(picture))
    return images


def squashed(boxes) -> str:
    return "".join(line.text for line in boxes).replace(" ", "").casefold()


def test_it_reads_lines_with_their_place_in_reading_order(reader):
    (found,) = reader.read(
        [drawn(("Second line here", (20, 300)), ("First line", (20, 40)), ("on the right", (400, 42)))]
    )
    assert [line.text for line in found] == ["First line", "on the right", "Second line here"]
    first, right, second = (line.box for line in found)
    assert first.left < 0.1
    assert right.left > 0.55
    assert second.top > 0.75
    assert all(line.confidence >= 0.8 for line in found)


def test_a_picture_without_text_has_no_lines(reader):
    assert reader.read([np.full((360, 640, 3), 90, dtype=np.uint8)]) == [[]]


def test_tiny_pictures_are_no_problem(reader):
    assert reader.read([np.zeros((1, 1, 3), dtype=np.uint8), np.zeros((2, 90, 3), dtype=np.uint8)]) == [[], []]


def test_single_characters_are_dropped(reader):
    (found,) = reader.read([drawn(("7", (300, 150)), ("Real words", (20, 40)), size=40)])
    assert [line.text for line in found] == ["Real words"]


def test_a_box_that_reaches_over_the_edge_is_clipped(reader):
    (found,) = reader.read([drawn(("WIDE TITLE AT THE EDGE", (-8, -4)), size=52)])
    assert found
    assert min(line.box.left for line in found) >= 0.0


def test_it_reads_a_title_whose_lines_touch(reader, extra_media):
    (found,) = reader.read(frames_at(extra_media / "clips/bbb_480p_30s.mp4", [27.0]))
    assert squashed(found) == "bigbuckbunny"
    upper, lower = (line.box for line in found)
    assert upper.bottom == pytest.approx(lower.top)


def test_it_reads_the_opening_titles_of_a_film(reader, extra_media):
    (found,) = reader.read(frames_at(extra_media / "clips/bbb_480p_30s.mp4", [21.5]))
    assert [line.text for line in found] == ["THE PEACH OPEN MOVIE PROJECT", "PRESENTS"]


def test_it_reads_small_frames_and_subtitles_over_moving_pictures(reader, extra_media):
    assert [squashed(f) for f in reader.read(frames_at(extra_media / "clips/h265_text.mp4", [0.0, 0.45]))] == [
        "frame0",
        "frame5",
    ]
    subtitles = [squashed(f) for f in reader.read(frames_at(extra_media / "made/subs.mp4", [3.0, 6.0, 9.0]))]
    assert subtitles == ["iwaslookingforbutterflies", "thisforestbelongstome", "runbeforetheyseeus"]


def test_a_picture_with_no_text_on_it_gives_none(reader, extra_media):
    assert reader.read(frames_at(extra_media / "clips/nasa_13013.mp4", [2.0, 9.0])) == [[], []]


def test_the_stamp_names_the_model_and_tells_options_apart():
    assert RapidOcr().stamp().model == "PP-OCRv6 small"
    assert RapidOcr().stamp().fingerprint != RapidOcr(limit_side=960).stamp().fingerprint


@pytest.mark.parametrize("option", [{"limit_side": 8}, {"min_confidence": 1.5}])
def test_options_that_make_no_sense_are_refused(option):
    with pytest.raises(EngineError, match=next(iter(option))):
        find_engine("ocr", {"engine": "rapidocr", **option})


@pytest.mark.parametrize("language", ["es", "zh"])
def test_signs_in_other_languages_are_read(reader, language):
    (found,) = reader.read(frames_at(clip_path(language, 0), [0.0]))
    written = "".join(signs()[language][0].split()).casefold()

    assert character_error_rate(written, squashed(found)) < 0.05
