"""Words: how every step that compares texts splits, folds, stems and measures them, in any script."""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache
from itertools import pairwise
from typing import Any

import regex

from transforms.text.language import USUAL, script_of

REVISION = "3"
"""Part of the stamps of engines that compare words; raised whenever a text may get other words or stems."""

# Scripts written without spaces between words: Han, kana, hangul and their marks of iteration and length, and all whose
# lines Unicode breaks by dictionary (Thai, Lao, Khmer, Burmese and their kin). Tibetan parts its syllables itself.
_UNSPACED = (
    r"[[\p{scx=Han}\p{scx=Hiragana}\p{scx=Katakana}\p{scx=Hangul}\p{scx=Bopomofo}\p{scx=Yi}\p{Ideographic}"
    r"\p{lb=Complex_Context}\p{sc=Javanese}\p{sc=Balinese}]&&[\p{L}\p{M}\p{Nl}]]"
)
# Vowel signs and accents follow their letter (Hindi, decomposed Latin). ASCII comes first because that is faster.
_LETTERS = rf"(?:(?:[a-z0-9]+|[[\p{{L}}\p{{N}}]--{_UNSPACED}])\p{{M}}*)+"
_TOKEN = regex.compile(rf"{_LETTERS}(?:'{_LETTERS})?|({_UNSPACED}(?:{_UNSPACED}|\p{{M}})*)", regex.V1)
_ASCII_TOKEN = regex.compile(r"[a-z0-9]+(?:'[a-z0-9]+)?")
# What a reader takes for one character; Khmer and Burmese stack the letter after such a sign below the one before it.
_CLUSTER = regex.compile(r".\p{M}*(?:(?<=[\u1039\u17d2])\p{L}\p{M}*)*", regex.V1 | regex.DOTALL)

# What does not tell words apart: points and vowel signs of Arabic and Hebrew, tatweel, the nukta of Devanagari, joiners
# (one that keeps two letters of Persian apart parts two words, as a space does), and the dot that casefold leaves of İ.
_NOT_WRITTEN = regex.compile(
    r"[[\p{scx=Arabic}\p{sc=Hebrew}]&&\p{Mn}]|[\u0640\u093c\u200d]|(?<!\p{sc=Arabic})\u200c|(?<=i)\u0307", regex.V1
)
_SAME_LETTER = str.maketrans(
    {"’": "'", "ँ": "ं"}
    | dict.fromkeys("أإآٱ", "ا")
    | dict.fromkeys("ؤئ", "ء")
    | dict.fromkeys("ىی", "ي")
    | dict.fromkeys("ةہۀۂ", "ه")
    | {"ک": "ك"}
)
_FOREIGN_DIGIT = regex.compile(r"[\p{Nd}--0-9]", regex.V1)
_MAY_NEED_THEM = regex.compile(r"[\u0307\u0590-\u1fff\u200c\u200d\ua000-\U0010ffff]")  # the two slow passes above
_ACCENT = regex.compile(r"[\u0300-\u036f]")
_WITHOUT_STROKE = str.maketrans({"ø": "o", "đ": "d", "ł": "l", "ı": "i", "ħ": "h", "ŧ": "t", "æ": "ae", "œ": "oe"})

# ISO 639 code -> the Snowball stemmer of that language.
_STEMMERS = dict(
    pair.split(":")
    for pair in (
        "ar:arabic ca:catalan cs:czech da:danish de:german el:greek en:english eo:esperanto es:spanish et:estonian "
        "eu:basque fa:persian fi:finnish fr:french ga:irish hi:hindi hu:hungarian hy:armenian id:indonesian it:italian "
        "lt:lithuanian ne:nepali nl:dutch no:norwegian pl:polish pt:portuguese ro:romanian ru:russian sr:serbian "
        "sv:swedish ta:tamil tr:turkish"
    ).split()
)

# English function words: they say nothing about a topic. Deliberately short; content words are never removed.
STOPWORDS = frozenset(
    "a an and are as at be been being but by can could did do does for from had has have he her here hers him his how "
    "i if in into is it its just may me might more most my no nor not of on once only or other our out over own same "
    "she should so some such than that the their them then there these they this those through to too under up very "
    "was we were what when where which while who whom why will with would you your".split()
)


def words(text: str) -> list[str]:
    """Folded words of ``text`` in order; runs of a script without spaces become overlapping pairs of characters.

    Folding takes away case, compatibility forms, and what is a matter of spelling in Arabic, Hebrew and Devanagari;
    digits of all scripts are the same. Accents stay.
    """
    folded = _folded(text)
    found: list[str] = []
    if folded.isascii():
        found += _ASCII_TOKEN.findall(folded)
        return found
    for token in _TOKEN.finditer(folded):
        characters = _CLUSTER.findall(token[1]) if token[1] else ()
        if len(characters) > 2:
            found.extend(map("".join, pairwise(characters)))
        else:
            found.append(token[0])
    return found


def words_and_characters(text: str) -> list[str]:
    """``words``, but each character of a script without spaces by itself."""
    tokens = _TOKEN.finditer(_folded(text))
    return [piece for token in tokens for piece in (_CLUSTER.findall(token[1]) if token[1] else [token[0]])]


def content_words(text: str) -> list[str]:
    """``words`` without English function words."""
    return [word for word in words(text) if word not in STOPWORDS]


def bare(word: str) -> str:
    """A folded word as it is typed by those who leave its accents out; vowel signs of other scripts stay."""
    if word.isascii():
        return word
    plain = _ACCENT.sub("", unicodedata.normalize("NFD", word))
    return unicodedata.normalize("NFC", plain).translate(_WITHOUT_STROKE)


@cache
def stem(word: str, language: str | None = None) -> str:
    """The Snowball stem of a folded word in ``language`` (ISO 639), without accents.

    Without ``language``, it is the one that is most usual in the word's script: English, Russian, Arabic, Hindi. A
    word of a language without a stemmer loses its accents alone.
    """
    stemmer = _STEMMERS.get(language or USUAL.get(script_of(word), ""))
    return bare(_snowball(stemmer).stemWord(word) if stemmer else word)


_own = threading.local()


def _snowball(name: str) -> Any:
    """A stemmer of this thread alone: one holds the word that it is at, and two threads would mix up theirs."""
    import snowballstemmer

    stemmers: dict[str, Any] = _own.__dict__
    if name not in stemmers:
        stemmers[name] = snowballstemmer.stemmer(name)
    return stemmers[name]


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold().translate(_SAME_LETTER)
    if _MAY_NEED_THEM.search(folded):
        folded = _NOT_WRITTEN.sub("", folded)
        folded = _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0], digit[0])), folded)
    return folded


def longest_common_run(left: Sequence[str], right: Sequence[str]) -> int:
    """The length, in words, of the longest run of words that both sequences contain."""
    matcher = SequenceMatcher(None, list(left), list(right), autojunk=False)
    return matcher.find_longest_match().size
