"""How hard a written query is: what its writer rated, and what is computed from the query and the evidence shown."""

from __future__ import annotations

from functools import lru_cache

from prompts.write_queries import Draft
from schemas.difficulty import Difficulty, Length
from schemas.video import MODALITIES, Evidence
from transforms.text.words import content_words, stem, words

_MOST_KEYWORDS = 7
_LONGEST_SENTENCE = 30


def difficulty_of(draft: Draft, shown: Evidence) -> Difficulty:
    """The difficulty of a draft that was written from ``shown``."""
    return Difficulty(draft.rated, len(draft.modalities), lexical_gap(draft.text, shown), length_of(draft.text))


def lexical_gap(text: str, shown: Evidence) -> float:
    """The share in [0, 1] of the distinct content words of ``text`` that ``shown`` does not hold, compared by stem.

    It is near 1 for evidence in another language, and 0 where there are no content words.
    """
    held = frozenset[str]().union(*(_stems(shown.text(modality)) for modality in MODALITIES))
    stems = {stem(word) for word in content_words(text)}
    return len(stems - held) / len(stems) if stems else 0.0


@lru_cache(maxsize=64)  # the queries of a video are written from the same few texts, one after the other
def _stems(text: str) -> frozenset[str]:
    return frozenset(map(stem, words(text)))


def length_of(text: str) -> Length:
    """Up to 7 words are keywords, more than 30 a paragraph."""
    count = len(words(text))
    return "keyword" if count <= _MOST_KEYWORDS else "sentence" if count <= _LONGEST_SENTENCE else "paragraph"
