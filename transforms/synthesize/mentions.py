"""Queries that speak of the video, its transcript or its frames instead of what it is about, in each language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

# A query must make sense to someone who has not seen the video, so it must not speak of it. What follows the noun tells
# a mention ("the video shows") from a compound that is an ordinary topic ("the video game industry").
_NOT_A_TOPIC = (
    r"(?![\s-]+(?:games?|gam(?:ing|ers?)|assistants?|conferenc\w+|calls?|chats?|stores?|rentals?|shops?|arcades?|art"
    r"|artists?|editors?|editing|cards?|links?|linked|platforms?|shar\w+|stream\w+|services?|surveillance|awards?"
    r"|cassettes?|tapes?|cameras?|feeds?|poker|replay|referees?|board))"
)
_POINTING = r"(?:the|this|that|these|those|an?|which|what|whose|each|our|your)"
_QUALIFIED = r"(?:(?:short|full|whole|entire|same|given|provided|following|attached|above|source|described)\s+)?"
_ENGLISH = re.compile(
    "|".join(
        (
            rf"\b{_POINTING}\s+{_QUALIFIED}(?:video|clip|footage)s?\b{_NOT_A_TOPIC}",
            r"\b(?:video|clip|footage|recording)s?\s+(?:shows?|showing|depicts?|depicting|featuring|where|in\s+which)\b",
            r"\bvideo[\s-]+(?:clip|footage|transcript|description|caption|title|frame|segment|recording)s?\b",
            r"\b(?:find|retrieve|search\s+for|look\s+for|show\s+me)\s+(?:\w+\s+)?(?:videos?|clips?|footage)\b"
            + _NOT_A_TOPIC,
            # "The transcript of the trial" is a document that people search for.
            r"\b(?:the|this)\s+(?:transcripts?|captions?|subtitles?|metadata|voice-?over)\b"
            r"(?!\s+(?:of|from|for|in|by|contests?|act(?:ors?|ress\w*)|artists?|translat\w+)\b)",
            r"\b(?:the|this)\s+uploader\b",
            r"\bthis\s+(?:recording|scene|segment)\b",
            r"\b(?:transcripts?|ocr|asr)\s+(?:text|output|says?|mentions?|evidence)\b",
            r"\b(?:in|from|based\s+on|according\s+to)\s+the\s+(?:given\s+|provided\s+)?"
            r"(?:audio|evidence|description|soundtrack|narration|on-?screen)\b(?!\s+(?:of|against)\b)",
            r"\b(?:in|across|between)\s+(?:the|these|this|each)\s+(?:first\s+|last\s+|sampled\s+)?frames?\b",
            r"\bon[\s-]?screen[\s-]+(?:text|captions?|titles?|graphics?|labels?|words?|messages?|banners?|logos?)\b",
            r"\b(?:text|words?|shown|displayed|visible|written|seen|appear(?:s|ing)?)\s+on[\s-](?:the\s+)?screen\b"
            r"(?!\s+(?:of|at|in)\b)",  # "of the ATM"
            r"\bas\s+(?:shown|depicted)\b(?!\s+(?:in|on|at|by|to)\b)",
            r"\bas\s+(?:shown|depicted|seen)\s+(?:here|above|below|(?:in|on|at)\s+the\s+(?:opening|beginning|start|end"
            r"|intro|background|foreground|scene|shot|picture|image|recording|screen)s?)\b",
            r"[\w-]\.(?:mp4|m4v|mkv|webm|avi|mov|mpe?g|wmv|flv|3gp|wav|mp3|m4a|jpe?g|png|srt|vtt)\b",
        )
    )
)
_HYPHENS = str.maketrans("‐‑–", "---")

# In the other languages the noun mostly follows what points at it, or is followed by "in"; compounds are topics.
_SPANISH = (
    r"\b(?:el|este|ese|un|del|al|los|estos|qué)\s+(?:v[ií]deos?|clips?|metraje)\b(?!\s+(?:musical|juego))"
    r"|\bv[ií]deos?\s+(?:muestran?|donde|en\s+(?:el|los)\s+que)\b|\b(?:busca|encuentra|muéstrame)\s+(?:un\s+)?v[ií]deo"
    r"|\b(?:la\s+transcripción|los\s+subtítulos|el\s+narrador)\b|\b(?:en|de)\s+(?:la\s+)?pantalla\b"
)
_RUSSIAN = (
    r"\b(?:эт\w+|данн\w+|в|на|из|о|котор\w+)\s+(?:видео|видеоролик\w*|ролик\w*|клип\w*|видеозапис\w+)\b"
    r"|\b(?:видео|видеоролик|ролик|видеозапись),?\s+(?:показ\w+|где|в\s+котор\w+)|\b(?:найд\w+|покаж\w+)\s+видео"
    r"|\bна\s+экране\b|\bв\s+кадре\b|\b(?:в|из|по)\s+(?:субтитр\w+|расшифровк\w+)|\bза\s+кадром\b"
)
_CHINESE = (
    r"[这這该該此那本](?:一)?[个個段部条條]?(?:视频|視頻|影片|录像|錄影|短片|片段|画面|畫面)"
    r"|(?:视频|視頻|影片|录像|片段|画面|畫面|屏幕|螢幕|镜头|鏡頭)(?:中|里|裡|上|显示|顯示|所示)"
    r"|(?:查找|寻找|搜索|播放|找)[^，。]{0,4}(?:视频|視頻|影片)|字幕(?![组組员員])|旁白|转录文本"
)
_KOREAN = (
    r"(?:이|그|저|해당|본|위)\s?(?:동영상|영상|비디오|클립|장면)|(?:동영상|영상|비디오|클립)(?:에서|에\s|속|의\s?내용|을\s?찾|를\s?찾)"
    r"|화면(?:에|속)|자막(?:에|이|은|을|에서)|내레이션"
)
_ARABIC = (
    r"(?<!ألعاب )(?<!لعبة )(?<!مكالمات )(?<!مكالمة )(?<!مؤتمرات )(?:\bالفيديو|\bفيديو\s+(?:يظهر|يعرض|يوضح)|\bبالفيديو)"
    r"|\b(?:هذا|في\s+هذا)\s+(?:المقطع|التسجيل|المشهد)|\bاللقطات\b|على\s+الشاشة|النص\s+المفرغ|الترجمة\s+المكتوبة|\bمقطع\s+فيديو"
)
_OTHERS: Mapping[str, re.Pattern[str]] = {
    language: re.compile(pattern)
    for language, pattern in (
        ("es", _SPANISH),
        ("ru", _RUSSIAN),
        ("zh", _CHINESE),
        ("ko", _KOREAN),
        ("ar", _ARABIC),
    )
}


def mention(text: str, language: str | None = None) -> str | None:
    """What in a text speaks of the video, its transcript or frames, or names a media file; None where nothing does.

    English is always looked for, which writers fall back into; besides it the ``language`` (ISO 639), where that is one
    of those that queries can be asked for in.
    """
    plain = unicodedata.normalize("NFKC", text).casefold().translate(_HYPHENS)
    for pattern in (_ENGLISH, *filter(None, [_OTHERS.get(language or "")])):
        if found := pattern.search(plain):
            return found[0].strip()
    return None
