"""Languages: in which one a text is, or whether a short text is, beyond doubt, in none of those that are wanted."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

_LATIN = (
    "af ca cs cy da de en eo es et eu fi fr ga gl hr hu id is it la lt lv ms mt nl no pl pt ro sk sl sq sv sw tl tr vi"
)
_CYRILLIC = "bg kk mn ru uk"
_ARABIC = "ar fa ur"

# ISO 639 code -> the scripts it is written in, as the first words of Unicode character names. Only these languages take
# part in a comparison: the model's 80 others are too close to them, or too rare, to be told apart in a dozen words.
SCRIPTS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(_LATIN.split(), ("LATIN",)),
    **dict.fromkeys(_CYRILLIC.split(), ("CYRILLIC",)),
    **dict.fromkeys(_ARABIC.split(), ("ARABIC",)),
    "am": ("ETHIOPIC",),
    "bn": ("BENGALI",),
    "el": ("GREEK",),
    "gu": ("GUJARATI",),
    "he": ("HEBREW",),
    "hi": ("DEVANAGARI",),
    "hy": ("ARMENIAN",),
    "ja": ("CJK", "HIRAGANA", "KATAKANA"),
    "ka": ("GEORGIAN",),
    "km": ("KHMER",),
    "kn": ("KANNADA",),
    "ko": ("HANGUL", "CJK"),
    "lo": ("LAO",),
    "ml": ("MALAYALAM",),
    "mr": ("DEVANAGARI",),
    "my": ("MYANMAR",),
    "ne": ("DEVANAGARI",),
    "pa": ("GURMUKHI",),
    "si": ("SINHALA",),
    "sr": ("CYRILLIC", "LATIN"),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "th": ("THAI",),
    "zh": ("CJK",),
}

# The language that letters of a script are taken for, unless they are beyond doubt in another one.
USUAL = {
    "ARABIC": "ar",
    "ARMENIAN": "hy",
    "CYRILLIC": "ru",
    "DEVANAGARI": "hi",
    "GREEK": "el",
    "LATIN": "en",
    "TAMIL": "ta",
}
# Letters that a language's neighbours in its script have and it has not: one may be of a name.
_FOREIGN_LETTERS = {"ru": "іїєґўІЇЄҐЎ", "ar": "پچژگکی"}
_DOUBT = 0.006  # the probability of the usual language that leaves a doubt; see TextFilters.min_language_probability
_ENOUGH = 300  # characters tell a language


def foreign(text: str, languages: Sequence[str], min_probability: float) -> str | None:
    """What shows that ``text`` is in none of ``languages`` (keys of SCRIPTS), or None where it may be in one of them.

    First the script: more than half of the letters in scripts of none of the languages, or two letters that the
    languages lack (Ukrainian, Persian). Then the model: the languages
    together get less than ``min_probability``, both in the whole text and in its lower-case words alone. The second
    reading is what saves English queries full of names ("Luiz Inácio Lula da Silva inauguration Brasília"): names
    keep their language, and in most languages they begin with a capital.
    """
    letters = Counter(_script(c) for c in unicodedata.normalize("NFKC", text) if c.isalpha())
    allowed = {script for language in languages for script in SCRIPTS[language]}
    strange = {script: count for script, count in letters.items() if script not in allowed}
    if 2 * sum(strange.values()) > letters.total():
        return f"mostly {min(strange, key=lambda script: (-strange[script], script)).title()} letters"
    if all(sum(map(text.count, _FOREIGN_LETTERS.get(language, ""))) >= 2 for language in languages):
        return "letters of another language"
    lower_case = " ".join(word for word in text.split() if word == word.lower() and any(map(str.isalpha, word)))
    if not lower_case:
        return None  # names, titles or digits only: nothing that tells a language beyond doubt
    probabilities = _probabilities(text)
    for reading in (probabilities, _probabilities(lower_case)):
        if sum(reading[language] for language in languages) >= min_probability:
            return None
    likeliest = max(sorted(probabilities), key=probabilities.__getitem__)
    return f"likely {likeliest} ({probabilities[likeliest]:.2f})"


@cache
def _script(letter: str) -> str:
    return unicodedata.name(letter, "unknown").split()[0]


def script_of(word: str) -> str:
    """The script of a word's first character, as the first word of its Unicode name; "LATIN" of an ASCII one."""
    return "LATIN" if word[:1].isascii() else _script(word[0])


def languages_of(words: Iterable[str]) -> dict[str, str]:
    """For each script of USUAL that ``words`` are in, the language (ISO 639) of those in it."""
    by_script: dict[str, list[str]] = defaultdict(list)
    for word in words:
        by_script[script_of(word)].append(word)
    return {script: _language_of(" ".join(by_script[script]), script) for script in sorted(USUAL.keys() & by_script)}


def _language_of(text: str, script: str) -> str:
    candidates = [language for language, scripts in SCRIPTS.items() if script in scripts]
    if len(candidates) == 1:
        return candidates[0]
    probabilities = _probabilities(text[:_ENOUGH])
    if probabilities[USUAL[script]] >= _DOUBT:
        return USUAL[script]
    return max(sorted(candidates), key=probabilities.__getitem__)


@cache
def _identifier() -> Any:
    """py3langid's naive Bayes model, restricted to the languages of SCRIPTS; reading it changes no state."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(SCRIPTS)
    return identifier


def _probabilities(text: str) -> dict[str, float]:
    return dict(_identifier().rank(text))
