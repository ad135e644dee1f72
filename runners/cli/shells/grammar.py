"""What may stand where on the command line, read from its parser."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Words = Mapping[str, tuple[str, ...]]
"""Names that a place may hold, by its metavar, where argparse has no choices for it."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option by its spellings: ``words`` are the values that it may have; () where those are not known by name."""

    names: tuple[str, ...]
    takes_value: bool
    words: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command by the words that call it: its options, and by place the words of its arguments.

    The place of a command below it holds the names of these; ``path`` is () for the program itself.
    """

    path: tuple[str, ...]
    help: str
    options: tuple[Option, ...]
    places: tuple[tuple[str, ...], ...]


def grammar(parser: argparse.ArgumentParser, words: Words) -> list[Command]:
    """The program of a parser, its commands and theirs, each before those below it."""
    return list(_commands(parser, (), "", words))


def _commands(parser: argparse.ArgumentParser, path: tuple[str, ...], text: str, words: Words) -> Iterator[Command]:
    shown = [action for action in parser._actions if action.help != argparse.SUPPRESS]
    options = [_option(action, words) for action in shown if action.option_strings]
    places = [_words(action, words) for action in shown if not action.option_strings]
    yield Command(path, text, tuple(options), tuple(places))
    for action in shown:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            for name, below in action.choices.items():
                yield from _commands(below, (*path, name), helps.get(name, ""), words)


def _option(action: argparse.Action, words: Words) -> Option:
    text = (action.help or "") % vars(action)
    return Option(tuple(action.option_strings), action.nargs != 0, _words(action, words), text)


def _words(action: argparse.Action, words: Words) -> tuple[str, ...]:
    known: Any = action.choices
    if known is None:
        return words.get(action.metavar if isinstance(action.metavar, str) else "", ())
    return tuple(str(each) for each in known)
