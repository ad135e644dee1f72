"""Whether a step's server has answered anything yet: one that refused all so far may refuse all questions."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from transforms.protocols.engine import EngineError

FIRST = 8
"""So many refusals in the same words, of the first questions that were asked, mean that no other will fare better."""

MATERIALS = 3
"""They are about at least so many videos: all that is asked about one may be refused for what it shows."""

# Counts, times and the ids of requests: words that differ in these alone are the same.
_NUMBERED = re.compile(r"\S*\d\S*")


@dataclass(slots=True)
class Question:
    """A question that was asked before the first answer; ``words`` are those of its refusal."""

    material: str
    state: Literal["under way", "refused", "failed"] = "under way"
    words: str = ""


class FirstAnswers:
    """The questions of one step of one run up to its first answer; safe to use from threads.

    Refusals come sooner than answers: they are looked at in the order in which the questions were asked, so that it is
    not the speed of a server that decides.
    """

    def __init__(self, step: str) -> None:
        self._step = step
        self._answered = False
        self._asked: list[Question] = []
        self._held: list[Callable[[bool], None]] = []
        self._lock = threading.Lock()

    def ask(self, material: str) -> Question:
        """Take down a question before it is asked; ``material`` is what it is about."""
        question = Question(material)
        with self._lock:
            if not self._answered:
                self._asked.append(question)
        return question

    def note_answer(self) -> None:
        """Take down that there is an answer, now or of an earlier run: refusals count from now on."""
        if self._answered:
            return
        with self._lock:
            self._answered = True
            held, self._held, self._asked = self._held, [], []
        for record in held:
            record(True)

    def close(self) -> None:
        """The end of the run: what was refused by a server that never answered may be asked again."""
        held, self._held = self._held, []
        for record in held:
            record(False)

    def note_failure(self, question: Question) -> None:
        """Take down that a question had neither an answer nor a refusal."""
        question.state = "failed"

    def note_refusal(self, question: Question, words: str, record: Callable[[bool], None]) -> None:
        """Take down a refusal, and ``record`` it, as permanent or not: now, or as soon as that is known.

        Raises:
            EngineError: the first questions were all refused in these words.
        """
        with self._lock:
            if not self._answered:
                self._held.append(record)
                question.state, question.words = "refused", _NUMBERED.sub("#", words)
                if self._all_refused():
                    raise EngineError(f"{self._step}: the first questions were all refused in the same words: {words}")
                return
        record(True)

    def _all_refused(self) -> bool:
        refused: list[Question] = []
        for question in self._asked:
            if question.state == "under way":
                return False
            if question.state == "refused":
                refused.append(question)
            if len({each.words for each in refused}) > 1:
                return False
            if len(refused) >= FIRST and len({each.material for each in refused}) >= MATERIALS:
                return True
        return False
