"""Queries in the six languages of MultiVENT 2.0: what the prompt asks for, and what each filter makes of them.

The table holds queries as writers give them, most from English evidence, with what a reader who knows the language
would have a filter say.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from pipeline.config import RecipeError, SynthesizeConfig, load_recipe
from pipeline.engines import Engines
from pipeline.outputs.report.card import render_card
from pipeline.outputs.report.report import render_report
from pipeline.outputs.report.summary import summarize
from pipeline.stage import LedgerBuilder
from pipeline.synthesize import Synthesize
from prompts.languages import LANGUAGES, in_language
from prompts.reply import UnparsableReply
from prompts.template import Template, load_template
from schemas.query import PAPERS_VARIANTS, Query
from schemas.video import AsrSegment, Box, EngineStamp, Evidence, MediaFacts, Metadata, OcrLine, Video
from tests.support.scripted_teacher import ScriptedEngine, ScriptedTeacher
from tests.support.tiny_output import write_tiny
from transforms.journal.journal import Journal
from transforms.protocols.teacher import TeacherReply
from transforms.synthesize.filter_queries import TextFilters, reject_reason
from transforms.synthesize.wording import are_similar, wording
from transforms.synthesize.write_queries import language_of, write_queries

KEPT = None
SAID = (
    "The launch of Kestrel 3 was called off two hours before lift-off because lightning was seen near the pad, and the "
    "crew had to leave the rocket."
)
CHINESE_SIGN = "因闪电临近发射场红隼三号火箭的发射在升空前两小时被取消机组人员撤离火箭"
ARABIC_SIGN = "أُلغي إطلاق الصاروخ كيستريل 3 قبل ساعتين من الإقلاع بسبب البرق قرب منصة الإطلاق وغادر الطاقم الصاروخ"
RUSSIAN_SIGN = (
    "Запуск ракеты отменили за два часа до старта из-за молний рядом со стартовой площадкой и экипаж покинул ракету"
)
SPANISH_SIGN = (
    "El lanzamiento se canceló dos horas antes del despegue por los rayos cerca de la plataforma y la tripulación salió"
)
KOREAN_SIGN = "발사대 근처에서 번개가 관측되어 이륙 두 시간 전에 로켓 발사가 취소되었고 승무원들은 로켓에서 나와야 했다"
EVIDENCE = Evidence(
    asr=(AsrSegment(0.0, 9.0, SAID, 1.0),),
    metadata=Metadata("Kestrel 3", "\n".join((CHINESE_SIGN, ARABIC_SIGN, RUSSIAN_SIGN, SPANISH_SIGN, KOREAN_SIGN))),
)

# language, query, the reason why it must be dropped
TABLE = [
    # English
    ("en", "why did astronauts have to climb out of their vehicle shortly before the countdown ended", KEPT),
    ("en", "Kestrel 3 weather scrub", KEPT),
    ("en", "what natural danger stops people from flying to orbit on schedule", KEPT),
    ("en", "the video shows why the crew left the rocket", "mentions video"),
    ("en", "launch of Kestrel 3 was called off two hours before lift-off because of weather", "copies evidence"),
    ("en", "rocket crew lightning", "too short"),
    ("en", "por qué se aplazó el vuelo de los astronautas por la tormenta", "wrong language"),
    ("en", "почему космонавтам пришлось покинуть корабль перед стартом", "wrong language"),
    ("en", " ".join(["weather that keeps people on the ground"] * 10), "too long"),
    ("en", "according to the transcript, what forced the astronauts out", "mentions video"),
    # Spanish
    ("es", "por qué los astronautas tuvieron que bajar de la nave poco antes de la cuenta atrás", KEPT),
    ("es", "qué fenómeno natural impide despegar a la hora prevista", KEPT),
    ("es", "aplazamiento del vuelo de Kestrel 3 por tormenta eléctrica", KEPT),
    ("es", "sector de los videojuegos que simulan viajes espaciales tripulados", KEPT),
    ("es", "en el video se explica por qué bajaron los astronautas", "mentions video"),
    ("es", "texto en pantalla que anuncia el aplazamiento del vuelo", "mentions video"),
    ("es", "busca un vídeo sobre astronautas que abandonan su nave", "mentions video"),
    ("es", "why did the astronauts have to leave before the countdown ended", "wrong language"),
    ("es", "porque os astronautas tiveram que sair da nave antes da contagem", "wrong language"),
    ("es", "cohete tripulado aplazado", "too short"),
    ("es", "se canceló dos horas antes del despegue por los rayos cerca de la plataforma", "copies evidence"),
    # Russian
    ("ru", "почему космонавтам пришлось покинуть корабль незадолго до старта", KEPT),
    ("ru", "какое природное явление мешает вовремя отправиться на орбиту", KEPT),
    ("ru", "перенос полёта Kestrel 3 из-за грозы", KEPT),
    ("ru", "индустрия видеоигр о полётах человека в космос", KEPT),
    ("ru", "в этом видео объясняют, почему отложили полёт", "mentions video"),
    ("ru", "что написано на экране о переносе полёта", "mentions video"),
    ("ru", "ролик показывает, как люди покидают корабль", "mentions video"),
    ("ru", "why did the crew have to leave the ship before the flight", "wrong language"),
    ("ru", "чому екіпажу довелося вийти з корабля після грози", "wrong language"),
    ("ru", "перенос полёта людей", "too short"),
    ("ru", "отменили за два часа до старта из-за молний рядом со стартовой площадкой", "copies evidence"),
    # Chinese
    ("zh", "宇航员为什么在倒计时结束前不得不离开飞船", KEPT),
    ("zh", "哪种天气会让载人航天任务推迟", KEPT),
    ("zh", "Kestrel 3 因雷暴推迟飞行的原因", KEPT),
    ("zh", "电子游戏产业如何模拟载人航天", KEPT),
    ("zh", "太空人為何在倒數結束前必須離開太空船", KEPT),
    ("zh", "这个视频解释了为什么宇航员离开飞船", "mentions video"),
    ("zh", "画面中宇航员离开飞船的原因是什么", "mentions video"),
    ("zh", "字幕提到的推迟飞行的原因", "mentions video"),
    ("zh", "why did the astronauts leave the ship before lift-off", "wrong language"),
    ("zh", "宇宙飛行士がカウントダウンの前に降りなければならなかった理由", "wrong language"),
    ("zh", "推迟飞行", "too short"),
    ("zh", "红隼三号火箭的发射在升空前两小时被取消是为什么", "copies evidence"),
    ("zh", "宇航员离开飞船的原因" * 12, "too long"),
    # Korean
    ("ko", "우주비행사들이 카운트다운 직전에 우주선에서 내려야 했던 이유", KEPT),
    ("ko", "어떤 날씨가 유인 우주 비행을 미루게 하는가", KEPT),
    ("ko", "Kestrel 3 비행이 뇌우로 미뤄진 까닭", KEPT),
    ("ko", "비디오게임 산업이 유인 비행을 다루는 방식", KEPT),
    ("ko", "이 영상에서 우주비행사들이 내린 이유", "mentions video"),
    ("ko", "화면에 나온 비행 연기 안내문의 내용", "mentions video"),
    ("ko", "자막에서 말하는 비행 연기의 이유", "mentions video"),
    ("ko", "why did the astronauts leave the ship before lift-off", "wrong language"),
    ("ko", "宇航员为什么在倒计时结束前离开飞船", "wrong language"),
    ("ko", "비행 연기", "too short"),
    ("ko", "번개가 관측되어 이륙 두 시간 전에 로켓 발사가 취소되었고", "copies evidence"),
    # Arabic
    ("ar", "لماذا اضطر رواد الفضاء إلى مغادرة المركبة قبل نهاية العد التنازلي", KEPT),
    ("ar", "أي ظاهرة طبيعية تمنع الانطلاق إلى المدار في موعده", KEPT),
    ("ar", "تأجيل رحلة Kestrel 3 بسبب العاصفة الرعدية", KEPT),
    ("ar", "صناعة ألعاب الفيديو التي تحاكي رحلات الفضاء المأهولة", KEPT),
    ("ar", "يشرح هذا الفيديو لماذا غادر رواد الفضاء المركبة", "mentions video"),
    ("ar", "ما النص الذي يظهر على الشاشة عن تأجيل الرحلة", "mentions video"),
    ("ar", "why did the astronauts leave the ship before lift-off", "wrong language"),
    ("ar", "چرا فضانوردان مجبور شدند پیش از پایان شمارش معکوس سفینه را ترک کنند", "wrong language"),
    ("ar", "تأجيل رحلة مأهولة", "too short"),
    ("ar", "أُلغي إطلاق الصاروخ كيستريل 3 قبل ساعتين من الإقلاع بسبب البرق قرب المنصة", "copies evidence"),
]
# language, two queries, whether one is dropped for the other
PAIRS = [
    ("es", "por qué se aplazó el vuelo de Kestrel 3", "¿Por qué se aplazó el vuelo del Kestrel 3?", True),
    ("es", "por qué se aplazó el vuelo de Kestrel 3", "por qué se aplazó el vuelo de Kestrel 4", False),
    ("ru", "почему перенесли полёт экипажа из-за грозы", "Почему из-за грозы перенесли полёты экипажа?", True),
    ("ru", "почему отложили полёт экипажа", "почему же отложили полёт экипажа?", True),
    ("zh", "宇航员为什么离开飞船", "宇航员为什么离开了飞船？", True),
    ("zh", "宇航员为什么离开飞船", "宇航员为什么返回飞船", False),
    ("ko", "우주비행사들이 우주선에서 내린 이유", "우주비행사들은 우주선에서 내린 이유", True),
    ("ko", "우주비행사 세 명이 내린 이유", "우주비행사 네 명이 내린 이유", False),
    ("ar", "لماذا غادر الرواد المركبة قبل الإطلاق", "لماذا غادَرَ الروّاد المركبة قبل الإطلاق؟", True),
    ("ar", "لماذا غادر الرواد المركبة قبل الإطلاق", "لماذا غادر الرواد المركبة بعد الإطلاق", False),
    ("en", "why did the crew leave the ship", "Why did the crews leave the ship?", True),
    ("en", "why did the crew of 3 leave the ship", "why did the crew of 4 leave the ship", False),
]
WRITER = EngineStamp("rules", "1", "", "0")


def query(language: str, text: str) -> Query:
    return Query(
        "q",
        "v",
        text,
        "teacher",
        "base",
        "asr",
        "because",
        ("asr",),
        WRITER,
        cited=("asr: lightning",),
        language=language,
    )


def decision(language: str, text: str) -> str | None:
    found = reject_reason(query(language, text), EVIDENCE, TextFilters())
    return found[0] if found else None


@pytest.mark.parametrize(("language", "text", "reason"), TABLE)
def test_each_filter_knows_each_language(language, text, reason):
    assert decision(language, text) == reason


def test_the_table_holds_sixty_queries_of_six_languages_and_every_filter_of_texts():
    kept, dropped = Counter(), Counter()
    for language, _, reason in TABLE:
        (dropped if reason else kept)[language] += 1

    assert kept.keys() == dropped.keys() == LANGUAGES.keys()
    assert kept.total() + dropped.total() >= 60
    assert min(kept.values()) >= 3
    reasons = {"mentions video", "wrong language", "too short", "copies evidence"}
    for language in LANGUAGES:
        assert reasons <= {reason for each, _, reason in TABLE if each == language}


@pytest.mark.parametrize(("language", "one", "other", "same"), PAIRS)
def test_near_duplicates_are_told_in_each_language(language, one, other, same):
    assert are_similar(wording(one), wording(other), 0.8) is same


@pytest.mark.parametrize("code", sorted(LANGUAGES))
@pytest.mark.parametrize("name", ["write_queries", "write_requests"])
def test_the_prompt_names_the_language_and_shows_an_example_in_it(name, code):
    template = load_template(name)

    asked = in_language(template, code)

    assert f"is in {LANGUAGES[code].name}, whatever the language of the evidence" in asked.source
    assert asked.slots == template.slots
    assert (asked == template) == (code == "en")
    assert asked.version == template.version or code != "en"
    if name == "write_queries":
        assert f'"query": "{LANGUAGES[code].example}"' in asked.source


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_an_example_of_the_prompt_is_a_query_that_the_filters_keep(code):
    assert decision(code, LANGUAGES[code].example) is None


def test_variants_take_turns_so_that_every_language_is_asked_for_about_as_often():
    languages = tuple(sorted(LANGUAGES))

    asked = Counter(language_of(f"v{n}", variant, languages) for n in range(200) for variant in PAPERS_VARIANTS)

    assert asked.keys() == LANGUAGES.keys()
    assert min(asked.values()) > 120  # of 1,000 in six languages
    assert {language_of("v", "all", ()), language_of("v", "all", ("ko",))} == {None, "ko"}


def test_a_query_is_asked_for_in_the_language_and_knows_it():
    text = "번개가 우주비행사들의 일정에 끼친 뜻밖의 영향"
    reply = {"evidence": ["asr: lightning"], "rationale": "It stops flights.", "query": text, "query_type": "speech"}
    said = json.dumps({"queries": [{**reply, "modalities": ["asr"]}]}, ensure_ascii=False)
    teacher = ScriptedTeacher(lambda _: TeacherReply(said))
    video = Video("v", "v.mp4", MediaFacts("0" * 64, 1), EVIDENCE)

    (written,) = write_queries(teacher, WRITER, video, "asr", 1, language="ko")

    assert (written.text, written.language) == (text, "ko")
    assert "is in Korean" in teacher.asked[0].prompt.system
    assert reject_reason(written, EVIDENCE, TextFilters()) is None
    assert reject_reason(replace(written, language=None), EVIDENCE, TextFilters())[0] == "wrong language"

    said = said.replace(text, LANGUAGES["ko"].example)
    with pytest.raises(UnparsableReply, match="echoes the prompt"):
        write_queries(ScriptedTeacher(lambda _: TeacherReply(said)), WRITER, video, "asr", 1, language="ko")


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [("[xx]", "language must be one of"), ("[ko, ko]", "each only once")],
)
def test_languages_that_cannot_be_asked_for_are_refused(setting, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe("demo", [f"synthesize.languages={setting}"])


def test_a_prompt_of_ones_own_must_say_where_the_language_goes(tmp_path: Path):
    source = load_template("write_queries").source.replace("is in English, whatever", "is English, whatever")
    (tmp_path / "own.txt").write_text(source)
    recipe = load_recipe("demo", [f"synthesize.prompt={tmp_path / 'own.txt'}", "synthesize.languages=[en, ko]"])

    with pytest.raises(RecipeError, match=r"synthesize\.languages: the prompt write_queries must say"):
        recipe.templates()
    assert in_language(Template("own", source), "en").source == source


SIGNS = {
    "en": SAID,
    "es": SPANISH_SIGN,
    "zh": CHINESE_SIGN,
    "ar": ARABIC_SIGN,
    "ru": RUSSIAN_SIGN,
    "ko": KOREAN_SIGN,
}
"""On-screen text in each language, as an OCR engine would give it: there are no fonts here for all of these scripts."""


def in_the_language_of_its_sign(request):
    """All queries of the table in one language, with a citation of what is shown."""
    language = next(code for code, sign in SIGNS.items() if any(sign in line.text for line in request.evidence.ocr))
    cited, _, _ = SIGNS[language].partition(" ")
    draft = {
        "evidence": [f"ocr: {cited}"],
        "rationale": "It is on the sign.",
        "query_type": "ocr",
        "modalities": ["ocr"],
    }
    texts = [text for code, text, _ in TABLE if code == language]
    return TeacherReply(json.dumps({"queries": [{**draft, "query": text} for text in texts]}, ensure_ascii=False))


def test_of_a_corpus_with_signs_in_six_languages_a_run_keeps_and_drops_what_the_table_says(tmp_path: Path):
    languages, signed = tuple(SIGNS), {}
    for name in map("v{}".format, range(200)):
        signed.setdefault(language_of(name, "ocr", languages), name)
    box, facts = Box(0.1, 0.1, 0.9, 0.2), MediaFacts("0" * 64, 1)
    videos = [
        Video(name, name, facts, Evidence(ocr=(OcrLine(0.0, 9.0, SIGNS[code], box, 0.9),)), "pack", 1)
        for code, name in signed.items()
    ]
    config = SynthesizeConfig({}, variants=("ocr",), queries_per_variant=len(TABLE), languages=languages)
    engines = Engines(None, None, None, None, ScriptedEngine(in_the_language_of_its_sign), (), None)
    ledger = LedgerBuilder()
    prompts = {"write_queries": load_template("write_queries")}
    with closing(Journal(str(tmp_path))) as journal, beam.Pipeline("FnApiRunner") as pipeline:
        splits = [(video.video_id, "train") for video in videos]
        inputs = tuple(
            pipeline | name >> beam.Create(items)
            for name, items in (("Videos", videos), ("People's", []), ("Splits", splits))
        )
        found = inputs | Synthesize(config, engines, journal, prompts, 0, ledger)
        losses = tuple(ledger.losses) | beam.Flatten() | beam.Filter(lambda loss: loss.step == "filter")
        dropped = (
            {
                "asked": found["written"] | "Texts" >> beam.Map(lambda one: (one.query_id, (one.language, one.text))),
                "why": losses | "Why" >> beam.Map(lambda loss: (loss.query_id, loss.reason)),
            }
            | beam.CoGroupByKey()
            | beam.MapTuple(lambda _, group: (*group["asked"][0], next(iter(group["why"]), None)))
        )
        assert_that(dropped, equal_to(TABLE))


def test_report_and_card_say_what_each_language_yields(tmp_path: Path):
    manifest = write_tiny(tmp_path / "out")
    summary = summarize(str(tmp_path / "out"), manifest)
    assert summary.yields == []

    summary.asked_in.update({("ko", "kept"): 3, ("ko", "too short"): 1, ("ko", "wrong language"): 2, ("zh", "kept"): 1})

    assert summary.yields == [("ko", 3, 6, "2 wrong language, 1 too short"), ("zh", 1, 1, "")]
    assert "| ko | 3 | 6 | 2 wrong language, 1 too short |" in render_card(summary)
    page = render_report(str(tmp_path / "out"), manifest, summary)
    assert "<td>2 wrong language, 1 too short</td>" in page
