"""Echoes: what a teacher says in the words of its prompt, so that it has said nothing of the video."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from prompts.template import Template

_SLOT = re.compile(r"\{\{\w+\}\}")
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r"[.!?\n\"<>]+")  # the prompt's quotations and tags end one, too
_CLAUSE = re.compile(r"[.!?\n\"<>:;|]+")
_LONG = 8  # words in a row that nobody shares with a prompt by chance
_SHARE = 0.8

Words = tuple[str, ...]


def echoes(text: str, template: Template) -> bool:
    """Whether ``text`` is a sentence, an example or a placeholder of the prompt, or nearly all taken from it.

    Nearly all: four fifths of its words stand in runs of at least eight that the prompt holds, too. Words alone count,
    in any case.
    """
    words = _words(text)
    pieces, runs = _own(template)
    if words in pieces:
        return True
    shared = [start for start in range(len(words)) if words[start : start + _LONG] in runs]
    covered = {at for start in shared for at in range(start, start + _LONG)}
    return bool(covered) and len(covered) >= _SHARE * len(words)


@cache
def _own(template: Template) -> tuple[frozenset[Words], frozenset[Words]]:
    """The prompt's sentences, clauses, quotations and placeholders, but for the answers, and its runs of words."""
    source = _SLOT.sub("\n", template.source)
    pieces = frozenset(_pieces(source)) - {(), ("yes",), ("no",)}
    words = _words(source)
    return pieces, frozenset(words[start : start + _LONG] for start in range(len(words) - _LONG + 1))


def _pieces(source: str) -> Iterator[Words]:
    for breaks in (_SENTENCE, _CLAUSE):
        yield from map(_words, breaks.split(source))


def _words(text: str) -> Words:
    return tuple(_WORD.findall(text.casefold()))
