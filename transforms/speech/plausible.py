"""Which segments of a transcript nobody said: a recogniser invents them in music, noise and silence.

Each rule looks at the text, its length in time, or its neighbours, and gives a reason. Thresholds follow NVIDIA's
NeMo Curator (PR 2258: at most 40 characters a second, a share of distinct words above 0.4, a longest word), widened
where a language needs it: a character of a script without spaces is a syllable, so that fewer fit in a second, and
words of German or Finnish are long. Real speech that repeats itself (a chorus, a chant) is lost with what is invented.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import regex

from schemas.check import require, require_fraction
from schemas.configuration.section import Section
from schemas.video import AsrSegment, EvidenceWarning
from transforms.text.words import words, words_and_characters

Found = tuple[str, str] | None  # (reason, detail)


class SpeechRules(Section, frozen=True):
    """Thresholds of what a person can have said.

    At least the share ``min_distinct_words`` of the words of a segment of ``_ENOUGH_WORDS`` are distinct, at most
    ``max_repeats`` times the same phrase follows itself, at most ``max_speed`` characters are said in a second
    and ``max_word_letters`` letters are in a word. A phrase that recognisers are known to invent is dropped where its
    confidence is below ``min_stock_confidence``, and of more than ``max_same_segments`` equal segments in a row only
    the first is kept.
    """

    min_distinct_words: float = 0.4
    max_repeats: int = 3
    max_speed: float = 40.0
    max_word_letters: int = 50
    min_stock_confidence: float = 0.5
    max_same_segments: int = 2

    def __post_init__(self) -> None:
        require_fraction("min_distinct_words", self.min_distinct_words)
        require_fraction("min_stock_confidence", self.min_stock_confidence)
        for name in ("max_repeats", "max_speed", "max_word_letters", "max_same_segments"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1", getattr(self, name))


DEFAULT_RULES = SpeechRules()


@dataclass(frozen=True, slots=True)
class Dropped:
    """A segment that nobody said, and why."""

    segment: AsrSegment
    reason: str
    detail: str


_ENOUGH_WORDS = 8  # fewer say nothing of repetition: "no, no, no, no"
_LONGEST_PHRASE = 8  # words
_BRIEFEST_S = 0.5  # recognisers place short words loosely
_LONGEST_MESSAGE = 1000
_SYLLABLE = 2.5  # letters that a character of a script without spaces counts for
_UNSPACED = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_NOT_SAID = re.compile(r"\[[^\]]*\]|\([^)]*\)|（[^）]*）|\*[^*]*\*|[♪♫♬♩]")  # [music], (applause)

# What stands at the end of subtitles, which Whisper was trained on: it is written there and never said.
_CREDIT = re.compile(
    r"amara\.org|opensubtitles|\bsubtitl\w*\s+(?:by|created|provided)\b|\b(?:captions?|transcri\w+)\s+by\b"
    r"|\buntertitel\w*\s+(?:von|der|im\s+auftrag|durch)\b|\bsous-?titr\w+\s+(?:par|réalis\w+|fait)\b"
    r"|\bsubtítulos\s+(?:por|realizados|creados)\b|субтитр\w*\s+(?:сдел|созда|подогн|добав|делал)"
    r"|(?:редактор|корректор)\s+(?:субтитров|[а-я]\.)|字幕(?:由|志愿者|志願者|製作|制作|提供|[:：])|자막\s*(?:제공|제작|by)|ترجمة\s+نانسي"
    r"|\b(?:www\.|https?:)\S+",
    re.IGNORECASE,
)
# What Whisper says most often where nobody speaks. People say these, too: so only where it is unsure.
_STOCK = frozenset(
    " ".join(words(phrase))
    for phrase in (
        "you|thank you|thank you very much|thank you so much|thanks for watching|thank you for watching|bye|bye bye"
        "|please subscribe|see you next time|see you in the next video|okay|so|oh|i'm sorry"
        "|gracias|muchas gracias|gracias por ver el video|suscríbete|suscríbete al canal|hasta la próxima"
        "|спасибо|спасибо за внимание|спасибо за просмотр|продолжение следует|подписывайтесь на канал|до свидания"
        "|谢谢|谢谢大家|谢谢观看|谢谢收看|感谢观看|請訂閱|请订阅|谢谢你的观看|请不吝点赞订阅转发打赏支持明镜与点点栏目"
        "|감사합니다|시청해주셔서 감사합니다|구독과 좋아요|다음 영상에서 만나요"
        "|شكرا|شكرا لكم|شكرا للمشاهدة|اشتركوا في القناة"
        "|vielen dank|danke|danke fürs zuschauen|bis zum nächsten mal|tschüss|merci|merci d'avoir regardé|à bientôt"
        "|ご視聴ありがとうございました|ありがとうございました|obrigado|grazie"
    ).split("|")
)


def implausible(segment: AsrSegment, rules: SpeechRules) -> Found:
    """The (reason, detail) of the first rule that a segment breaks by itself, or None where it may have been said."""
    plain = unicodedata.normalize("NFKC", segment.text)
    said = words(_NOT_SAID.sub(" ", plain))
    if not said:
        return "no words", "sounds, symbols or nothing"
    if credit := _CREDIT.search(plain):
        return "subtitle credit", credit[0]
    if " ".join(said) in _STOCK and segment.confidence < rules.min_stock_confidence:
        return "stock phrase", f"confidence {segment.confidence:.2f}, at least {rules.min_stock_confidence:g}"
    return _repeats(said, rules) or _overlong(plain, rules) or _too_fast(segment, rules)


def _repeats(said: Sequence[str], rules: SpeechRules) -> Found:
    if len(said) < _ENOUGH_WORDS:
        return None
    distinct = len(set(said)) / len(said)
    if distinct < rules.min_distinct_words:
        return "repeats itself", f"{distinct:.2f} of its words are distinct, at least {rules.min_distinct_words:g}"
    for length in range(1, _LONGEST_PHRASE + 1):
        again = [said[place] == said[place + length] for place in range(len(said) - length)]
        run = max((sum(1 for _ in group) for same, group in groupby(again) if same), default=0)
        times = run // length + 1
        if times > rules.max_repeats and run + length >= _ENOUGH_WORDS and 2 * (run + length) >= len(said):
            return "repeats itself", f"{length} words {times} times in a row, at most {rules.max_repeats}"
    return None


def _overlong(text: str, rules: SpeechRules) -> Found:
    longest = max(words_and_characters(text), key=len)
    if len(longest) <= rules.max_word_letters:
        return None
    return "overlong word", f"{len(longest)} letters, at most {rules.max_word_letters}"


def _too_fast(segment: AsrSegment, rules: SpeechRules) -> Found:
    syllables = len(_UNSPACED.findall(segment.text))
    characters = len(segment.text) + (_SYLLABLE - 1) * syllables
    speed = characters / max(segment.end_s - segment.start_s, _BRIEFEST_S)
    if speed <= rules.max_speed:
        return None
    return "too fast", f"{speed:.0f} characters a second, at most {rules.max_speed:g}"


def parted(segments: Iterable[AsrSegment], rules: SpeechRules) -> tuple[tuple[AsrSegment, ...], list[Dropped]]:
    """The segments that may have been said, as they were given, and those that break a rule; both in their order."""
    kept: list[AsrSegment] = []
    dropped: list[Dropped] = []
    for _, group in groupby(segments, key=lambda segment: words(segment.text)):
        sound = []
        for segment in group:
            if found := implausible(segment, rules):
                dropped.append(Dropped(segment, *found))
            else:
                sound.append(segment)
        if len(sound) > rules.max_same_segments:
            dropped += [Dropped(segment, "said again", f"{len(sound)} times in a row") for segment in sound[1:]]
            del sound[1:]
        kept += sound
    return tuple(kept), dropped


def warnings_of(dropped: Sequence[Dropped], of: int) -> list[EvidenceWarning]:
    """One warning a reason, with how many of so many segments were dropped for it, and which."""
    by_reason: dict[str, list[Dropped]] = {}
    for each in dropped:
        by_reason.setdefault(each.reason, []).append(each)
    return [
        EvidenceWarning("asr", reason, f"{len(group)} of {of} segments dropped: {_listed(group)}")
        for reason, group in sorted(by_reason.items())
    ]


def _listed(group: Sequence[Dropped]) -> str:
    told = [f"{each.segment.start_s:.1f} s {each.segment.text!r} ({each.detail})" for each in group]
    return "; ".join(told)[:_LONGEST_MESSAGE]
