"""What of a query's text is compared with that of others: its words, and what tells two questions of like words apart.

"Which bridge did the flood of 2019 close in Lyon" and "… of 2021 …", "… in Nice" or "When did …" share nearly all words
and ask for different things. So two texts that share their words are similar only if

- no word was replaced by another: "the spring flood" by "the autumn flood", "the colour of" by "the number of";
- neither has a number or a name that the other lacks, and these come in the same order: "Lyon beats Nice 3-1";
- they ask the same kind of question, and either both negate or neither does.

What is left is one question put in another order or inflection, or with a few more words that are neither. To keep two
queries that ask for one thing costs little; to drop one that asks for another costs a hard query, and makes its video
an answer to a question that it does not answer.

Names are known by their capitals. In a script that has none, any word may be a name; where it has no spaces either,
words are characters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from transforms.text.function_words import FUNCTION_CHARACTERS, FUNCTION_WORDS, PARTICLES
from transforms.text.words import stem, words_and_characters

_ASKING = {"who": "who", "whom": "who", "whose": "who", "which": "what", "what": "what"} | {
    word: word for word in ("when", "where", "why", "how")
}
_OPENING = 2  # "In which year …": a question word this early asks; later ones mostly begin a clause
_NEGATIONS = frozenset(
    "no not never nobody nothing nowhere none without neither nor cannot "
    "sin nunca nadie nada ningún ninguna не нет без никогда никто ничего".split()
)
_CARDINALS = [str(number) for number in range(1, 13)]
_NUMBERS = dict(
    zip(
        (
            "one two three four five six seven eight nine ten eleven twelve "
            "uno dos tres cuatro cinco seis siete ocho nueve diez once doce "
            "один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать "
            "first second third fourth fifth sixth seventh eighth ninth tenth"
        ).split(),
        (*_CARDINALS, *_CARDINALS, *_CARDINALS, *"1st 2nd 3rd 4th 5th 6th 7th 8th 9th 10th".split()),
        strict=True,
    )
)
_COUNTING = frozenset(
    stem(word) for word in "last half both twenty thirty forty fifty hundred thousand million billion dozen".split()
)
_ROMAN = re.compile(r"x{0,2}(?:ix|iv|v?i{0,3})")
_THOUSANDS = re.compile(r"(?<=\d)[,\u00a0\u202f](?=\d{3}(?!\d))")
_PARTICLE = re.compile(rf"(?<=[가-힣]{{2}})(?:{'|'.join(PARTICLES)})(?![가-힣])")
_CAPITALISED = re.compile(r"\w[\w'’]*")


@dataclass(frozen=True, slots=True)
class Wording:
    """A text as it is compared: ``terms`` are the stems of its content words in order, or of all where it has none.

    ``words`` are the same as a set. ``telling`` are those that are numbers or names, ``asks`` is the kind of question
    ("when", "how", "" for none).
    """

    words: frozenset[str]
    terms: tuple[str, ...] = ()
    telling: frozenset[str] = frozenset()
    asks: str = ""
    negated: bool = False


def wording(text: str) -> Wording:
    """The wording of a text."""
    plain = _THOUSANDS.sub("", unicodedata.normalize("NFKC", text))
    folded = list(_split(plain))
    terms = tuple(dict.fromkeys(_term(word) for word in folded if not _is_function(word)))
    return Wording(
        words=frozenset(terms) or frozenset(map(stem, folded)),
        terms=terms,
        telling=frozenset(filter(_is_telling, terms)) | _names(plain),
        asks=next((_ASKING[word] for word in folded[:_OPENING] if word in _ASKING), ""),
        negated=any(word in _NEGATIONS or word.endswith("n't") for word in folded),
    )


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """|left and right| / |left or right|; both must not be empty."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def are_similar(left: Wording, right: Wording, threshold: float) -> bool:
    """Whether the Jaccard index of the words reaches the threshold, and nothing tells the two apart."""
    small, large = sorted((len(left.words), len(right.words)))
    if not small or small / large < threshold or jaccard(left.words, right.words) < threshold:
        return False
    return not _differ(left, right)


def _differ(left: Wording, right: Wording) -> bool:
    if left.negated != right.negated or (left.asks and right.asks and left.asks != right.asks):
        return True
    if left.words - right.words and right.words - left.words:
        return True
    telling = left.telling | right.telling
    return bool(telling & (left.words ^ right.words)) or _order(left, telling) != _order(right, telling)


def _order(one: Wording, telling: frozenset[str]) -> tuple[list[str], list[str]]:
    """The names and the numbers, each in order: that a year comes first or last makes no difference."""
    told = [term for term in one.terms if term in telling]
    return [term for term in told if not term[0].isdigit()], [term for term in told if term[0].isdigit()]


def _split(text: str) -> list[str]:
    return words_and_characters(_PARTICLE.sub("", text))


def _is_function(word: str) -> bool:
    return word in FUNCTION_WORDS or word in FUNCTION_CHARACTERS


def _term(word: str) -> str:
    return _NUMBERS.get(word) or stem(word)


def _is_telling(term: str) -> bool:
    """Whether a term is a number, a letter that numbers something, or of a script without capitals."""
    if any(map(str.isdigit, term)) or term in _COUNTING or _ROMAN.fullmatch(term):
        return True
    return len(term) == 1 or (not term[0].isascii() and term[0].upper() == term[0].lower())


def _names(text: str) -> frozenset[str]:
    """The terms that begin with a capital, be it that of a sentence; none of a text in capitals alone."""
    if text.isupper():
        return frozenset()
    names = (word for token in _CAPITALISED.findall(text) if token[0].isupper() for word in _split(token))
    return frozenset(_term(word) for word in names if not _is_function(word))
