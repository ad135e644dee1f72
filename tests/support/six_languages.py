"""Queries in the six languages of MultiVENT 2.0 as writers give them, and what a reader would have filters say.

They are asked of the signs in benchmarks/signs, the first of each language (``TABLE``) and the second (``OF_SECOND``).
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from itertools import pairwise

from benchmarks.make_signs import FOLDER, signs

KEPT = None
SIGNS = signs()
SAID = SIGNS["en"][0]

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
# The same of the second sign; of a "near duplicate" and the query before it, which ask the same, either may be dropped.
OF_SECOND = [
    ("en", "how do people get over a river while winter damage is being repaired", KEPT),
    ("en", "how do people get over the river while winter damage gets repaired", "near duplicate"),
    ("en", "closed until Monday because ice has torn one of its cables somewhere", "copies evidence"),
    ("en", "what the clip shows about a frozen river crossing", "mentions video"),
    ("es", "cómo cruza la gente un río mientras se arregla un daño del invierno", KEPT),
    ("es", "¿cómo cruza la gente el río mientras se arreglan los daños del invierno?", "near duplicate"),
    ("es", "seguirá cerrado hasta el lunes porque el hielo rompió uno de sus cables", "copies evidence"),
    ("es", "este clip habla de un paso cortado por el frío", "mentions video"),
    ("ru", "как люди перебираются через реку пока чинят зимние повреждения", KEPT),
    ("ru", "Как люди перебираются через реку, пока чинят зимнее повреждение?", "near duplicate"),
    ("ru", "закрыт до понедельника потому что лёд оборвал один из тросов и паром", "copies evidence"),
    ("ru", "в этом ролике говорится о перекрытой переправе", "mentions video"),
    ("zh", "冬天设施受损期间人们怎样过河", KEPT),
    ("zh", "冬天设施受损期间，人们怎样过河？", "near duplicate"),
    ("zh", "缆索桤木河大桥将关闭到星期一渡轮免费运送所有行人的通知", "copies evidence"),
    ("zh", "这段视频里人们怎样过河", "mentions video"),
    ("ko", "겨울에 생긴 피해를 고치는 동안 사람들이 강을 건너는 방법", KEPT),
    ("ko", "겨울에 생긴 피해를 고치는 동안, 사람들은 강을 건너는 방법?", "near duplicate"),
    ("ko", "다리는 월요일까지 닫히고 나룻배가 모든 사람을 무료로 건네준다", "copies evidence"),
    ("ko", "이 동영상에서 사람들이 강을 건너는 방법", "mentions video"),
    ("ar", "كيف يعبر الناس النهر أثناء إصلاح أضرار الشتاء", KEPT),
    ("ar", "كيف يعبُر الناس النهر أثناء إصلاح أضرار الشتاء؟", "near duplicate"),
    ("ar", "مغلقا حتى يوم الاثنين لأن الجليد قطع أحد حباله وتنقل العبارة الناس", "copies evidence"),
    ("ar", "يعرض هذا المقطع كيف يعبر الناس النهر", "mentions video"),
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

# What the filters are known to decide otherwise: a Spanish stem that the stemmer does not know ("arreglan"), and a copy
# of what Tesseract misread by half.
KEPT_ALL_THE_SAME = {
    "¿cómo cruza la gente el río mientras se arreglan los daños del invierno?",
    "다리는 월요일까지 닫히고 나룻배가 모든 사람을 무료로 건네준다",
}


def expected(language: str, number: int) -> dict[str, str | None]:
    """What a reader would have the filters say of each query about a language's sign of that number, from 0."""
    return {text: reason for code, text, reason in (TABLE, OF_SECOND)[number] if code == language}


def either_of_two(found: Mapping[str, str | None], language: str, number: int) -> dict[str, str | None]:
    """What was found of the same; where the first of two near-duplicates was dropped, it is said of the second."""
    settled, wanted = dict(found), expected(language, number)
    for first, second in pairwise(wanted):
        if wanted[second] == "near duplicate" and (found.get(first), found.get(second)) == ("near duplicate", None):
            settled[first], settled[second] = None, "near duplicate"
    return settled


def as_read() -> dict[tuple[str, int], str]:
    """What Tesseract read of each sign, by language and number: recorded by ``python -m benchmarks.six_languages``."""
    with (FOLDER / "as_read.tsv").open(encoding="utf-8", newline="") as file:
        return {(language, int(number)): text for language, number, text in csv.reader(file, delimiter="\t")}
