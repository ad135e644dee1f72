"""Runs of words that two texts share: how a text is told that was taken from another, whatever stands around it.

Thirteen words in a row are what GPT-3 took for contamination (Brown et al. 2020, arXiv 2005.14165, appendix C). A
shorter text counts whole, where it has at least four words; fewer are found in anything. Two short texts of the same
words in another order are the same as well, which matters for queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transforms.text.words import content_words, stem, words

RUN = 13
"""Words in a row that are no chance."""
LEAST = 4
"""Words that a shorter text must have to be looked for."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What a text shares with the text ``text_id``: the words, in order."""

    text_id: str
    words: str


@dataclass(slots=True)
class WordRuns:
    """The runs of ``run`` words of many texts, each with the first text that has it; shorter texts whole.

    A run takes some 150 bytes: 10,000 documents of 500 words are 0.8 GB.
    """

    run: int = RUN
    _texts: dict[tuple[str, ...], str] = field(default_factory=dict)
    _sets: dict[frozenset[str], str] = field(default_factory=dict)
    _lengths: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, texts: Mapping[str, str], run: int = RUN) -> WordRuns:
        """Those of texts by id; the smaller id has a run that several hold."""
        made = cls(run)
        for text_id, text in sorted(texts.items()):
            made._add(text_id, words(text))
        return made

    def _add(self, text_id: str, folded: Sequence[str]) -> None:
        length = min(len(folded), self.run)
        if length >= LEAST:
            self._lengths.add(length)
            for run in _runs(folded, length):
                self._texts.setdefault(run, text_id)
        if length < self.run:
            self._sets.setdefault(_content(folded), text_id)

    def shared_by(self, text: str) -> Shared | None:
        """What a text shares with these: its first run that is among them, else all its content words; or nothing."""
        folded = words(text)
        for length in sorted(self._lengths, reverse=True):
            for run in _runs(folded, length):
                if (text_id := self._texts.get(run)) is not None:
                    return Shared(text_id, " ".join(run))
        same = self._sets.get(_content(folded)) if folded else None
        return Shared(same, " ".join(folded)) if same is not None else None


def _content(folded: Sequence[str]) -> frozenset[str]:
    return frozenset(map(stem, content_words(" ".join(folded)) or folded))


def _runs(folded: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(folded[start : start + length]) for start in range(len(folded) - length + 1))
