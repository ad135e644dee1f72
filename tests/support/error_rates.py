"""How far what was recognised is from what was said or written."""

from __future__ import annotations

from collections.abc import Sequence

from transforms.text.words import words


def word_error_rate(said: str, heard: str) -> float:
    """Edits (insertions, deletions, substitutions of words) that lead from one to the other, per word said."""
    return _edits(words(said), words(heard)) / len(words(said))


def character_error_rate(written: str, read: str) -> float:
    """Edits of characters, per character written; case and the width of white space do not count."""
    reference, hypothesis = (" ".join(text.casefold().split()) for text in (written, read))
    return _edits(reference, hypothesis) / len(reference)


def _edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    row = list(range(len(hypothesis) + 1))
    for i, item in enumerate(reference, start=1):
        above, row = row, [i]
        for j, other in enumerate(hypothesis, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (item != other)))
    return row[-1]
