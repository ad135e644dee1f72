"""What the rules know of words: which say nothing of a topic, which are names, and how much each of them says."""

from __future__ import annotations

import re

from transforms.text.words import STOPWORDS

# Words that questions are made of, and small words beyond the stop list: they say nothing of a topic, so that they
# neither enter a query as its subject nor count in its judgement. Every word of a template is one of these.
GENERIC = frozenset(
    "about account action affect after again all almost along already also although always among another any "
    "around asked away back because before behind below between both bring brought called came caption clip come "
    "comes compare compared connect connected connection connects describe described display during each else "
    "event events ever every everyone explain explained few first five follow followed four frame frames happen "
    "happened hardly here however include included inside involve involved just know known last late later lead "
    "led less like link linked long make many matter meet mention mentioned met much name named near never new "
    "next nobody nothing notice now often old one outside part people person picture place play played point read "
    "reads role said say says scene second see seen several shot shots show shown shows sign since six someone "
    "something soon speaker still story take taken tell thing things third three time together turn turned twice "
    "two until use used video want way well without words year years yet".split()
)

# What a describer of pixels says of every picture: how much, where, how large.
LAYOUT = frozenset(
    "background band bottom bright centre dark detailed finely horizontal left light lower medium mixture moderate "
    "moderately mostly movement patch right slight still strip strong top upper vertical".split()
)

MONTHS = frozenset("january february march april may june july august september october november december".split())

TOKEN = re.compile(r"[^\W_]+(?:['’][^\W\d_]+)?")
SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def weight(word: str, is_name: bool) -> float:
    """How much a word says of a topic, without any corpus: names, numbers and long words look rare."""
    if word in MONTHS:
        return 0.5
    if is_name:
        return 2.5
    if any(c.isdigit() for c in word):
        return 2.0 if len(word) > 2 else 0.5
    return 2.0 if len(word) >= 9 else 1.5 if len(word) >= 6 else 1.0


def is_generic(word: str) -> bool:
    """Whether a folded word says nothing of a topic."""
    return word in STOPWORDS or word in GENERIC or word in LAYOUT


def names_in(sentence: str) -> set[str]:
    """The folded words that are capitalised inside the sentence, or start it before such a word."""
    found = TOKEN.findall(sentence)
    if sentence.isupper():
        return set()
    starts = 0 if len(found) > 1 and found[1][0].isupper() else 1
    return {word.casefold() for word in found[starts:] if word[0].isupper()}
