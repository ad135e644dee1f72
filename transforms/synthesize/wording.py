"""What of a query's text is compared with that of others: its words, and what tells two questions of like words apart.

"Which bridge did the flood of 2019 close in Lyon" and "… of 2021 …", "… in Nice" or "When did …" share nearly all words
and ask for different things. So two texts are similar only if their words are, and nothing telling was replaced: a
number or name by another, the question word by another, the thing asked for by another, an assertion by its negation.
A number or name that only one of them has makes it the more specific of two that are similar all the same.

Question words and words for numbers are known in English; numbers and names in scripts that have digits and capitals.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from transforms.text.words import STOPWORDS, content_words, stem, words

_ASKING = {"who": "who", "whom": "who", "whose": "who", "which": "what", "what": "what"} | {
    word: word for word in ("when", "where", "why", "how")
}
_MEASURES = frozenset("many much long far old tall high deep wide often fast big large heavy late early soon".split())
_NUMBERS = frozenset(
    stem(word)
    for word in "one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty hundred "
    "thousand million first second third fourth fifth sixth seventh eighth ninth tenth last half both".split()
)
_NEGATIONS = frozenset("no not never nobody nothing nowhere none without neither nor cannot".split())
_TOKEN = re.compile(r"\w[\w'’-]*")
_ENDS_SENTENCE = frozenset('.!?:;…"“”«»([—–-')
_OPENING = 2  # "In which year …": a question word this early asks; later ones mostly begin a clause


@dataclass(frozen=True, slots=True)
class Wording:
    """A text as it is compared. ``words`` are the stems of its content words, or of all where it has none.

    ``telling`` are the stems of numbers and names, ``asks`` is the kind of question ("when", "how many", "" for none),
    ``asked`` the stem of the first content word after it ("" for none).
    """

    words: frozenset[str]
    telling: frozenset[str] = frozenset()
    asks: str = ""
    asked: str = ""
    negated: bool = False


def wording(text: str) -> Wording:
    """The wording of a text."""
    folded = words(text)
    asks, asked = _question(folded)
    return Wording(
        words=frozenset(stem(word) for word in content_words(text) or folded),
        telling=_numbers(folded) | _names(text),
        asks=asks,
        asked=asked,
        negated=any(word in _NEGATIONS or word.endswith("n't") for word in folded),
    )


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """|left and right| / |left or right|; both must not be empty."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def are_similar(left: Wording, right: Wording, threshold: float) -> bool:
    """Whether the Jaccard index of the words reaches the threshold, and nothing telling was replaced."""
    small, large = sorted((len(left.words), len(right.words)))
    if not small or small / large < threshold or jaccard(left.words, right.words) < threshold:
        return False
    return not _differ(left, right)


def _differ(left: Wording, right: Wording) -> bool:
    if left.negated != right.negated or (left.asks and right.asks and left.asks != right.asks):
        return True
    if left.asked and right.asked and left.asked not in right.words and right.asked not in left.words:
        return True
    return bool(left.telling - right.words) and bool(right.telling - left.words)


def _question(folded: list[str]) -> tuple[str, str]:
    for place, word in enumerate(folded[:_OPENING]):
        if word in _ASKING:
            rest = folded[place + 1 :]
            measure = rest[0] if word == "how" and rest and rest[0] in _MEASURES else ""
            asked = next((each for each in rest[bool(measure) :] if each not in STOPWORDS), "")
            return f"{_ASKING[word]} {measure}".strip(), stem(asked) if asked else ""
    return "", ""


def _numbers(folded: list[str]) -> frozenset[str]:
    return frozenset(stem(word) for word in folded if word[0].isdigit() or stem(word) in _NUMBERS)


def _names(text: str) -> frozenset[str]:
    """Stems of the words with a capital that stands there for its own sake: not at the beginning of a sentence."""
    plain = unicodedata.normalize("NFKC", text)
    if plain.isupper():
        return frozenset()
    found: set[str] = set()
    for token in _TOKEN.finditer(plain):
        before = plain[: token.start()].rstrip()
        if token[0][0].isupper() and before and before[-1] not in _ENDS_SENTENCE:
            found.update(stem(word) for word in content_words(token[0]))
    return frozenset(found)
