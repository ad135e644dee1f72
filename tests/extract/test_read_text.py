import json
from collections.abc import Sequence
from difflib import SequenceMatcher

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from schemas.video import Box, Evidence, MediaFacts, OcrLine, Video
from tests.support.brightness_reader import BrightnessReader
from transforms.engines.ocr.rapidocr import RapidOcr
from transforms.engines.ocr.text_boxes import reading_order, upright_box
from transforms.extract.decode import Limits
from transforms.extract.read_text import ReadText, read_video_text
from transforms.extract.recognize import merge_lines, read_text, standing_in
from transforms.media.frame_pack import write_frame_pack
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.frames import Frame, Image
from transforms.protocols.screen_text import TextBox
from transforms.storage.cache import Cache

HERE, THERE = Box(0.1, 0.1, 0.5, 0.2), Box(0.1, 0.8, 0.5, 0.9)


def line(text: str, box: Box = HERE, confidence: float = 0.9) -> TextBox:
    return TextBox(text, box, confidence)


def slide(*lines: str, cursor: tuple[int, int] = (0, 0)) -> Image:
    canvas = PillowImage.new("RGB", (640, 360), "white")
    draw = ImageDraw.Draw(canvas)
    for number, text in enumerate(lines):
        draw.text((40, 40 + 60 * number), text, fill="black", font=ImageFont.load_default(28))
    draw.rectangle((*cursor, cursor[0] + 3, cursor[1] + 5), fill="black")
    return np.asarray(canvas)


# Which frames are read


def test_frames_that_look_alike_are_read_once():
    first, second = slide("Signals"), slide("Signals", "and noise")
    assert standing_in([first, first, second, second, first]) == [0, 0, 2, 2, 4]


def test_a_moving_cursor_is_no_change():
    assert standing_in([slide("Signals", cursor=(100 + 50 * i, 300)) for i in range(4)]) == [0, 0, 0, 0]


def test_a_slow_fade_is_compared_with_the_last_frame_that_was_read():
    assert standing_in([np.full((90, 160, 3), 3 * i, dtype=np.uint8) for i in range(5)]) == [0, 0, 0, 3, 3]


def test_no_frames_need_no_reading():
    assert standing_in([]) == []


def test_a_line_lasts_as_long_as_the_frames_that_look_alike():
    dark, bright = np.zeros((90, 160, 3), dtype=np.uint8), np.full((90, 160, 3), 200, dtype=np.uint8)
    lines = read_text(BrightnessReader(), [Frame(float(t), dark if t < 3 else bright) for t in range(5)])
    assert [(found.text, found.time_s, found.last_s) for found in lines] == [
        ("grey 0", 0.0, 2.0),
        ("grey 200", 3.0, 4.0),
    ]


# How readings become lines


def test_one_line_over_three_readings_is_one_line_in_its_best_reading():
    readings = [
        (0.0, [line("Hello wor1d", confidence=0.8)]),
        (1.0, [line("HELLO WORLD")]),
        (2.0, [line("hello world!")]),
    ]
    # The first has a digit, the others have none: numbers tell lines apart.
    assert merge_lines(readings) == (
        OcrLine(0.0, 0.0, "Hello wor1d", HERE, 0.8),
        OcrLine(1.0, 2.0, "HELLO WORLD", HERE, 0.9),
    )


def test_a_letter_misread_in_the_same_place_is_the_same_line():
    readings = [(0.0, [line("Big Byck", confidence=0.85)]), (1.0, [line("BigBuck", confidence=0.99)])]
    assert [found.text for found in merge_lines(readings)] == ["BigBuck"]


def test_a_similar_line_in_another_place_is_another_line():
    assert len(merge_lines([(0.0, [line("Big Byck")]), (1.0, [line("Big Buck", THERE)])])) == 2


def test_an_equal_line_may_move():
    (credit,) = merge_lines([(0.0, [line("Directed by", THERE)]), (1.0, [line("Directed by", HERE)])])
    assert (credit.time_s, credit.last_s) == (0.0, 1.0)


def test_numbers_tell_lines_apart():
    assert [found.text for found in merge_lines([(0.0, [line("Frame 1")]), (1.0, [line("Frame 2")])])] == [
        "Frame 1",
        "Frame 2",
    ]


def test_one_reading_may_miss_a_line_but_not_two():
    shown = [line("Breaking news")]
    assert len(merge_lines([(0.0, shown), (1.0, []), (2.0, shown)])) == 1
    assert len(merge_lines([(0.0, shown), (1.0, []), (2.0, []), (3.0, shown)])) == 2


def test_a_text_shown_twice_at_once_is_two_lines():
    both = [line("EXIT", HERE), line("EXIT", THERE)]
    assert [found.box for found in merge_lines([(0.0, both), (1.0, both[::-1])])] == [HERE, THERE]


def test_control_characters_and_spare_space_are_removed_and_blank_lines_dropped():
    assert [found.text for found in merge_lines([(0.0, [line(" a\u202e\tb\x00 c "), line("\x07 ", THERE)])])] == [
        "a b c"
    ]


def test_punctuation_is_text_too():
    assert [found.text for found in merge_lines([(0.0, [line("?!")]), (1.0, [line("?!")])])] == ["?!"]


def test_lines_come_by_time_and_then_from_top_to_bottom_whatever_the_order_of_the_boxes():
    boxes = [line("low", THERE), line("high", HERE), line("beside", Box(0.6, 0.11, 0.9, 0.21))]
    for shuffled in (boxes, boxes[::-1], [boxes[1], boxes[2], boxes[0]]):
        assert [found.text for found in merge_lines([(0.0, shuffled), (1.0, [line("new")])])] == [
            "high",
            "beside",
            "low",
            "new",
        ]


def test_boxes_are_upright_and_inside_the_picture():
    assert upright_box([(-4, 10), (60, 5), (260, 50), (0, 120)], width=200, height=100) == Box(0.0, 0.05, 1.0, 1.0)


def test_words_on_one_row_keep_their_order_although_their_tops_differ():
    left, right = line("left", Box(0.1, 0.11, 0.3, 0.2)), line("right", Box(0.4, 0.1, 0.6, 0.19))
    assert reading_order([right, left]) == [left, right]


# Videos


def video(frame_pack: str | None = "pack", count: int = 1) -> Video:
    media = MediaFacts("0" * 64, 1, duration_s=2.0)
    return Video("v", "file:v", media, Evidence(caption="kept"), frame_pack, count if frame_pack else 0)


@pytest.fixture
def cache(tmp_path) -> Cache:
    frames = [Frame(float(t), np.full((90, 160, 3), 100 * t, dtype=np.uint8)) for t in range(3)]
    write_frame_pack(str(tmp_path / "made"), frames, quality=90)
    cache = Cache(str(tmp_path / "cache"))
    cache.publish(str(tmp_path / "made"), "pack")
    return cache


LIMITS = Limits()


def test_a_video_gets_its_lines_and_the_stamp_of_the_engine(cache, journal):
    read = read_video_text(video(), BrightnessReader(), cache, journal, LIMITS)
    assert [found.text for found in read.evidence.ocr] == ["grey 0", "grey 100", "grey 200"]
    assert read.evidence.caption == "kept"
    assert [(use.part, use.engine.name) for use in read.engines] == [("ocr", "brightness")]
    assert read.warnings == ()


def test_a_video_without_pictures_passes_through(cache, journal):
    assert read_video_text(video(None), BrightnessReader(), cache, journal, LIMITS) == video(None)


@pytest.mark.parametrize(
    ("fails", "reason", "message"),
    [
        ("with an error", "engine failed", "KeyError: 'odd picture'"),
        ("by dying", "worker died", "exited with code 3"),
        ("by hanging", "time limit", "no answer within"),
    ],
)
def test_an_engine_that_fails_on_one_video_leaves_a_warning(cache, journal, fails, reason, message):
    limits = Limits(asleep_limit_s=1.0) if fails == "by hanging" else LIMITS
    read = read_video_text(video(), BrightnessReader(fails), cache, journal, limits)
    assert read.evidence == video().evidence
    assert read.engines == ()
    (warning,) = read.warnings
    assert (warning.part, warning.reason) == ("ocr", reason)
    assert message in warning.message


def test_an_engine_that_cannot_be_loaded_stops_the_run(cache, journal):
    with pytest.raises(EngineError, match="'brightness' cannot be loaded: OSError: the weights are gone"):
        read_video_text(video(), BrightnessReader("to load"), cache, journal, LIMITS)


def test_the_transform_reads_every_video(cache, journal):
    with TestPipeline() as pipeline:
        read = pipeline | beam.Create([video(), video(None)]) | ReadText(BrightnessReader(), cache, journal, LIMITS)
        assert_that(read.videos | beam.Map(lambda one: len(one.evidence.ocr)), equal_to([3, 0]))


# Real media


def sampled(path, times_s: Sequence[float], max_side: int = 768) -> list[Frame]:
    import av

    frames = []
    with av.open(str(path)) as container:
        for time_s in times_s:
            container.seek(int(time_s * 1_000_000))
            frame = next(frame for frame in container.decode(video=0) if frame.time >= time_s)
            picture = frame.to_image()
            picture.thumbnail((max_side, max_side))
            frames.append(Frame(float(frame.time), np.asarray(picture)))
    return frames


def test_nine_lines_in_ten_of_a_lecture_are_read_from_fewer_frames_than_there_are(extra_media):
    frames = sampled(extra_media / "made/slides.mp4", range(4, 54, 5))
    assert len(set(standing_in([frame.image for frame in frames]))) < len(frames)
    found = [found.text for found in read_text(RapidOcr(), frames)]
    states = json.loads((extra_media / "made/slides.json").read_text())
    shown = {text for frame in frames for text in [texts for start_s, texts in states if start_s <= frame.time_s][-1]}

    def is_read(text: str) -> bool:
        return any(SequenceMatcher(None, text.lower(), other.lower()).ratio() > 0.9 for other in found)

    assert len(shown) >= 10
    assert sum(map(is_read, shown)) / len(shown) > 0.9


def test_a_films_titles_are_each_one_line_with_their_times(extra_media):
    frames = sampled(extra_media / "clips/bbb_480p_30s.mp4", [20, 21, 22, 25, 26, 27, 29])
    lines = {found.text.replace(" ", ""): found for found in read_text(RapidOcr(), frames)}
    assert list(lines) == ["THEPEACHOPENMOVIEPROJECT", "PRESENTS", "BigBuck", "BUNNY"]
    title = lines["BUNNY"]
    assert 25 < title.time_s < 27
    assert 28 < title.last_s < 30


def test_loading_is_done_once_a_process():
    assert loaded(RapidOcr()) is loaded(RapidOcr())
