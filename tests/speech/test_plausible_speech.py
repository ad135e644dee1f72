"""Which segments of a transcript nobody said, and what a recogniser makes of sounds without speech."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from runners.cli.main import main
from schemas.check import InvalidRecord
from schemas.video import AsrSegment
from tests.support.parrots import Parrot
from tests.support.sounds import read_track
from transforms.protocols.speech import SAMPLE_RATE_HZ, Samples
from transforms.speech.hearing import hear, table
from transforms.speech.non_speech import non_speech
from transforms.speech.plausible import SpeechRules, implausible, parted, warnings_of

RULES = SpeechRules()

SAID = [
    (
        0.0,
        5.0,
        "And so my fellow Americans, ask not what your country can do for you, ask what you can do for your",
        0.9,
    ),
    (0.0, 1.0, "No, no, no, no!", 0.4),
    (0.0, 0.02, "Bridge closed.", 0.9),  # recognisers place short words loosely
    (0.0, 2.0, "Thank you very much.", 0.9),  # sure of it: somebody said so
    (0.0, 2.0, "thank you for coming to the old bridge", 0.2),
    (0.0, 3.0, "Rindfleischetikettierungsüberwachungsgesetz heißt es", 0.9),
    (0.0, 4.0, "火箭发射因为闪电被推迟了两个小时工程师说", 0.9),
    (0.0, 4.0, "로켓 발사가 번개 때문에 두 시간 연기되었습니다", 0.9),
    (0.0, 4.0, "تأخر إطلاق الصاروخ ساعتين بسبب البرق في السماء", 0.9),
    (0.0, 4.0, "Запуск ракеты был отложен на два часа из-за грозы", 0.9),
    (0.0, 4.0, "El lanzamiento se retrasó dos horas por los rayos", 0.9),
    (0.0, 30.0, " ".join(f"the house{n} of word{n} and" for n in range(20)), 0.9),  # long segments repeat small words
    (0.0, 2.0, "we met at the subtitle workshop", 0.9),
    (0.0, 1.0, "(inaudible) the dam broke", 0.5),
    (0.0, 4.0, "10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0, lift off", 0.9),
]
INVENTED = [
    (0.0, 30.0, "I'm going to go to the store. " * 8, 0.9, "repeats itself"),
    (0.0, 30.0, "la la la la la la la la la la", 0.9, "repeats itself"),
    (0.0, 30.0, "the mayor opens a tram line today " + "in the rain " * 4, 0.9, "repeats itself"),
    (0.0, 30.0, "谢谢观看谢谢观看谢谢观看谢谢观看谢谢观看", 0.9, "repeats itself"),
    (0.0, 20.0, "спасибо большое " * 6, 0.9, "repeats itself"),
    (0.0, 1.0, "the mayor of the old town opened a new tram line through the market", 0.9, "too fast"),
    (0.0, 1.0, "火箭发射因为闪电被推迟了两个小时工程师说明天再试", 0.9, "too fast"),
    (0.0, 9.0, "a" + "ha" * 40, 0.9, "overlong word"),
    (0.0, 9.0, "♪ ♪ ♪", 0.9, "no words"),
    (0.0, 9.0, "[Music] (applause)", 0.9, "no words"),
    (0.0, 9.0, "...", 0.9, "no words"),
    (0.0, 2.0, "Untertitel der Amara.org-Community", 0.9, "subtitle credit"),
    (0.0, 2.0, "Subtitles by the Amara.org community", 0.9, "subtitle credit"),
    (0.0, 2.0, "Субтитры сделал DimaTorzok", 0.9, "subtitle credit"),
    (0.0, 2.0, "字幕由志愿者提供", 0.9, "subtitle credit"),
    (0.0, 2.0, "ترجمة نانسي قنقر", 0.9, "subtitle credit"),
    (0.0, 2.0, "you", 0.03, "stock phrase"),
    (0.0, 2.0, "Thanks for watching!", 0.3, "stock phrase"),
    (0.0, 2.0, "¡Gracias por ver el video!", 0.3, "stock phrase"),
    (0.0, 2.0, "시청해주셔서 감사합니다.", 0.3, "stock phrase"),
    (0.0, 2.0, "Спасибо за просмотр.", 0.3, "stock phrase"),
    (0.0, 2.0, "شكرا للمشاهدة", 0.3, "stock phrase"),
    (0.0, 2.0, "谢谢观看。", 0.3, "stock phrase"),
]


@pytest.mark.parametrize("said", SAID)
def test_what_people_say_is_plausible_in_any_language(said):
    assert implausible(AsrSegment(*said), RULES) is None


@pytest.mark.parametrize("invented", INVENTED)
def test_what_recognisers_invent_is_told_with_its_reason(invented):
    *segment, reason = invented

    found = implausible(AsrSegment(*segment), RULES)

    assert found is not None
    assert found[0] == reason


def segments(*texts: str) -> list[AsrSegment]:
    return [AsrSegment(float(at), at + 1.0, text, 0.9) for at, text in enumerate(texts)]


def test_of_segments_that_say_the_same_over_and_over_the_first_is_kept():
    given = segments("the dam broke", "We leave.", "we leave", "we leave!", "the dam broke")

    kept, dropped = parted(given, RULES)

    assert kept == (given[0], given[1], given[4])
    assert [(each.segment, each.reason) for each in dropped] == [(given[2], "said again"), (given[3], "said again")]
    assert parted(given[:3], RULES) == (tuple(given[:3]), [])  # twice may be said


def test_what_is_dropped_is_counted_by_reason_and_told():
    kept, dropped = parted([*segments("the dam broke", "♪", "♪ ♪"), AsrSegment(5.0, 6.0, "you", 0.1)], RULES)

    found = warnings_of(dropped, 4)

    assert [(warning.part, warning.reason) for warning in found] == [("asr", "no words"), ("asr", "stock phrase")]
    assert found[0].message.startswith("2 of 4 segments dropped: 1.0 s '♪'")
    assert len(kept) == 1


def test_rules_that_cannot_be_kept_are_refused():
    with pytest.raises(InvalidRecord, match="max_repeats must be at least 1"):
        SpeechRules(max_repeats=0)


def test_sounds_without_speech_are_made_on_the_spot_and_the_same_each_time():
    sounds = non_speech(2.0)

    assert list(sounds) == ["silence", "hiss", "wind", "hum", "clicks", "music"]
    assert {(len(sound), sound.dtype) for sound in sounds.values()} == {(2 * SAMPLE_RATE_HZ, np.dtype(np.int16))}
    assert not sounds["silence"].any()
    assert all(np.abs(sound).max() > 5000 for name, sound in sounds.items() if name != "silence")
    again = non_speech(2.0)
    assert all(np.array_equal(sound, again[name]) for name, sound in sounds.items())


@dataclass(frozen=True)
class Inventive(Parrot):
    """Hears the same in whatever it is given: a stock phrase, and a sentence that nobody said."""

    def recognize(self, windows: Sequence[Samples]) -> list[list[AsrSegment]]:
        return [[AsrSegment(0.0, 1.0, "you", 0.1), AsrSegment(1.0, 3.0, "the dam broke", 0.3)] for _ in windows]


def test_what_an_engine_invents_is_shown_with_what_keeps_it_out():
    sounds = non_speech(3.0)

    found = {one.name: one for one in hear(Inventive(), sounds, RULES)}

    assert found.keys() == sounds.keys()
    assert all(one.evidence == () for one in found.values())  # the gate lets none of these sounds through
    assert [each.reason for each in found["music"].dropped] == ["stock phrase"]
    told = "\n".join(table(list(found.values())))
    assert "'you' (0.10): stock phrase" in told
    assert "'the dam broke' (0.30): plausible: the gate alone keeps it out" in told


def test_what_passes_the_gate_and_the_rules_is_called_evidence(extra_media: Path):
    sounds = {"speech": read_track(extra_media / "audio/ss_0880.wav")}

    (found,) = hear(Inventive(), sounds, RULES)

    assert found.passed_s > 1.0
    assert [segment.text for segment in found.evidence] == ["the dam broke"]
    assert "would be EVIDENCE" in "\n".join(table([found]))


def test_music_of_a_real_clip_does_not_pass_the_gate(extra_media: Path):
    sounds = {"bunny": read_track(extra_media / "clips/bbb_480p_30s.mp4")}

    (found,) = hear(Inventive(), sounds, RULES)

    assert found.evidence == ()
    assert found.invented != ()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["demo", "--set", "extract.asr=null"], "extract.asr is null"),
        (["demo", "--set", "extract.speech.max_repeats=0"], "max_repeats must be at least 1"),
        (["demo", "--sound", "none.mp3"], "none.mp3"),
    ],
)
def test_a_check_that_cannot_be_made_says_why_in_one_line(arguments, complaint, capsys):
    assert main(["asr-check", *arguments]) == 2

    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1
