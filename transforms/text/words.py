"""Words: how every step that compares texts splits, folds and measures them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import SequenceMatcher
from functools import cache

# Scripts written without spaces; runs of them are split into overlapping pairs of characters, as IR tokenizers do.
_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
# Vowel signs and accents that follow their letter (Hindi, Arabic, decomposed Latin); `\w` leaves them out.
_MARKS = "".join(char for char in map(chr, range(0x300, 0x10000)) if unicodedata.category(char)[0] == "M")
_LETTERS = rf"(?:[^\W_{_UNSPACED}][{re.escape(_MARKS)}]*)+"
_TOKEN = re.compile(rf"[{_UNSPACED}]+|{_LETTERS}(?:['’]{_LETTERS})?")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")

# English function words: they say nothing about a topic. Deliberately short; content words are never removed.
STOPWORDS = frozenset(
    "a an and are as at be been being but by can could did do does for from had has have he her here hers him his how "
    "i if in into is it its just may me might more most my no nor not of on once only or other our out over own same "
    "she should so some such than that the their them then there these they this those through to too under up very "
    "was we were what when where which while who whom why will with would you your".split()
)


def words(text: str) -> list[str]:
    """Lower-cased words of ``text`` in order; runs of Chinese, Japanese, Korean and Thai become character pairs."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    found: list[str] = []
    for token in _TOKEN.findall(folded):
        if _IS_UNSPACED.match(token) and len(token) > 2:
            found.extend(token[i : i + 2] for i in range(len(token) - 1))
        else:
            found.append(token)
    return found


def content_words(text: str) -> list[str]:
    """``words`` without English function words."""
    return [word for word in words(text) if word not in STOPWORDS]


@cache
def stem(word: str) -> str:
    """The English Snowball stem of a folded word; words of other scripts are returned as they are."""
    import snowballstemmer

    stemmed: str = snowballstemmer.stemmer("english").stemWord(word)
    return stemmed


def longest_common_run(left: Sequence[str], right: Sequence[str]) -> int:
    """The length, in words, of the longest run of words that both sequences contain."""
    matcher = SequenceMatcher(None, list(left), list(right), autojunk=False)
    return matcher.find_longest_match().size
