"""Refusals of a server that has not answered yet: looked at in the order of the questions, kept until it answers."""

from __future__ import annotations

import pytest

from transforms.journal.first_answers import FIRST, FirstAnswers
from transforms.protocols.engine import EngineError


def refuse(first: FirstAnswers, questions, words: str = "no") -> None:
    for question in questions:
        first.note_refusal(question, words, lambda _: None)


def test_refusals_that_come_sooner_than_an_answer_that_was_asked_for_before_stop_nothing():
    first = FirstAnswers("judge")
    slow, *others = [first.ask(str(n)) for n in range(40)]
    refuse(first, others)
    first.note_answer()
    refuse(first, [slow])


def test_a_question_that_failed_is_passed_over():
    first = FirstAnswers("judge")
    failed, *others = [first.ask(str(n)) for n in range(1 + FIRST)]
    first.note_failure(failed)
    refuse(first, others[:-1])
    with pytest.raises(EngineError, match="judge: the first questions were all refused in the same words: no"):
        refuse(first, others[-1:])


def test_a_refusal_is_recorded_as_final_with_the_first_answer_and_as_passing_where_there_is_none():
    answered, silent, found = FirstAnswers("judge"), FirstAnswers("judge"), []
    for first in (answered, silent):
        first.note_refusal(first.ask("v"), "no", found.append)
    assert found == []
    answered.note_answer()
    assert found == [True]
    answered.note_refusal(answered.ask("v"), "no", found.append)
    silent.close()
    assert found == [True, True, False]
