"""The decision between yes and no over a whole vocabulary: which tokens spell either word, and which word is taken."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prompts.margin import spelling_of
from schemas.query import Label
from schemas.token import Token

Logprobs = NDArray[np.float64]  # [vocabulary], at temperature 1


@dataclass(frozen=True, slots=True)
class Decision:
    """The word that was taken, and the token that starts it, with every alternative that spells a word."""

    label: Label
    token: Token


class AnswerWords:
    """The tokens of one vocabulary that spell yes or no, or neither yet."""

    def __init__(self, pieces: Sequence[str]) -> None:
        """``pieces`` are the texts of all tokens, by id. Raises ``ValueError`` where none spells a word."""
        spelled = [spelling_of(piece.encode()) for piece in pieces]
        self._pieces = pieces
        self._words: dict[Label, list[int]] = {
            label: [number for number, spelling in enumerate(spelled) if spelling == label] for label in ("yes", "no")
        }
        self._neither_yet = [number for number, spelling in enumerate(spelled) if spelling == "none yet"]
        for word, numbers in self._words.items():
            if not numbers:
                raise ValueError(f"no token of its vocabulary starts to spell {word}")

    def decide(self, logprobs: Logprobs, temperature: float, seed: int) -> Decision:
        """The decision at a position whose next token is distributed as ``logprobs`` say.

        It lies between the two words alone, as if a grammar forbade all others. At temperature 0 it is the word that is
        likelier in all of its spellings together; above, one that is drawn, by a number that follows from the seed. The
        token is the word's likeliest one. What it is recorded with are the model's own log-probabilities, whatever the
        temperature: of every spelling, and of all tokens that are neither word yet together.
        """
        label: Label = "yes" if self._takes_yes(logprobs, temperature, seed) else "no"
        spellings = [*self._words["yes"], *self._words["no"]]
        alternatives = [(self._pieces[number].encode(), float(logprobs[number])) for number in spellings]
        if self._neither_yet:
            alternatives.append((b" ", _log_sum(logprobs[self._neither_yet])))
        taken = max(self._words[label], key=lambda number: logprobs[number])
        token = Token(self._pieces[taken].encode(), float(logprobs[taken]), tuple(alternatives), complete=True)
        return Decision(label, token)

    def _takes_yes(self, logprobs: Logprobs, temperature: float, seed: int) -> bool:
        sharper = logprobs / temperature if temperature > 0 else logprobs
        delta = _log_sum(sharper[self._words["yes"]]) - _log_sum(sharper[self._words["no"]])
        if temperature <= 0:
            return delta > 0
        drawn = random.Random(f"decision {seed}").random()
        return math.log(drawn) - math.log1p(-drawn) < delta if drawn else True


def _log_sum(logprobs: Logprobs) -> float:
    return float(np.logaddexp.reduce(logprobs))
