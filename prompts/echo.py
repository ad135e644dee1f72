"""Echoes: what a teacher says in the words of its prompt, so that it has said nothing of the video."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from difflib import SequenceMatcher
from functools import cache

from prompts.template import Template

_SLOT = re.compile(r"\{\{\w+\}\}")
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"[.!?\n\"<>]+")  # the prompt's quotations and tags end one, too
_CLAUSE = re.compile(r"[.!?\n\"<>:;|]+")
_QUOTED = re.compile(r'"([^"]+)"')
_BRACKET = re.compile(r"[<>]")
_LONG = 8  # words in a row that nobody shares with a prompt by chance
_MOSTLY = 0.8  # of a text's words, in such runs
_ALIKE = 0.75  # an example with a word in four exchanged is still the prompt's
_PATCH = 4  # words in a row of an example: one says little, and many together all
_PATCHED = 10  # words in such rows, at least, and two thirds of the text
_TELLING = 6  # words: what is shorter is like much else, and must be the same

Words = tuple[str, ...]


def echoes(text: str, template: Template) -> bool:
    """Whether ``text`` is a sentence of the prompt, is an example in it or nearly so, or is taken from it mostly.

    Or is patched together of its examples: ten words or more, and two thirds of all, in runs of at least four that
    examples hold. Of 15 rationales by a model of 135 million parameters, 8 went on about the crew of the example.

    Words alone count, in any case. Nearly so: of two texts of six words or more, three quarters are shared in order.
    Mostly: four fifths of the words stand in runs of at least eight that the prompt holds, too. A sentence may resemble
    the prompt's, for an honest rationale goes by what it was told.
    """
    words = _words(text)
    sentences, _, runs = _own(template)
    if (
        words in sentences
        or _resembles_any(words, template)
        or _covered(words, runs, _LONG) >= _MOSTLY * len(words) > 0
    ):
        return True
    patched = _covered(words, _patches(template), _PATCH)
    return patched >= max(_PATCHED, 2 * len(words) / 3)


def _resembles_any(words: Words, template: Template) -> bool:
    """See ``echoes``. What the words that both have rule out is not aligned."""
    vocabulary = set(words)
    for example, counts in _as_long(template, len(words)):
        enough = _ALIKE * (len(words) + len(example)) / 2.0
        if sum(counts[word] for word in counts.keys() & vocabulary) < enough:
            continue
        if SequenceMatcher(None, example, words, autojunk=False).ratio() >= _ALIKE:
            return True
    return False


@cache
def _as_long(template: Template, length: int) -> list[tuple[Words, Counter[str]]]:
    """The examples that a text of so many words may resemble, by its length, and how often each holds a word."""
    return [
        (example, Counter(example))
        for example in _own(template)[1]
        if min(length, len(example)) >= max(_TELLING, _ALIKE * (length + len(example)) / 2.0)
    ]


def _covered(words: Words, runs: frozenset[Words], length: int) -> int:
    """How many of the words stand in runs of so many that are among ``runs``."""
    if runs.isdisjoint(_runs(words, length)):
        return 0  # as nearly always
    starts = (start for start in range(len(words)) if words[start : start + length] in runs)
    return len({at for start in starts for at in range(start, start + length)})


def _runs(words: Words, length: int) -> Iterator[Words]:
    return zip(*(words[start:] for start in range(length)), strict=False)


@cache
def _patches(template: Template) -> frozenset[Words]:
    """The short runs of words of the prompt's examples."""
    return frozenset[Words]().union(*(_runs(example, _PATCH) for example in _own(template)[1]))


@cache
def _own(template: Template) -> tuple[frozenset[Words], frozenset[Words], frozenset[Words]]:
    """The prompt's sentences, clauses and quotations, but for the answers; its examples; and its runs of words."""
    source = _SLOT.sub("\n", template.source)
    sentences = frozenset(_words(part) for breaks in (_SENTENCE, _CLAUSE) for part in breaks.split(source))
    examples = frozenset(_words(example) for line in source.splitlines() for example in _examples(line))
    words = _words(source)
    runs = frozenset(_runs(words, _LONG))
    return sentences - {(), ("yes",), ("no",)}, examples, runs


def _examples(line: str) -> list[str]:
    """What is quoted, what stands between two tags, and what stands where something is to be put in."""
    return [*_QUOTED.findall(line), *_BRACKET.split(line)[1:-1]]


def _words(text: str) -> Words:
    return tuple(_WORD.findall(text.casefold()))
