"""A parser whose every complaint is one line with the nearest word that it knows."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from runners.cli.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser that raises ``UsageError`` where argparse would print its usage and exit.

    ``beside`` are options that somebody else takes out of what was typed; they are named where one is nearest.
    """

    beside: tuple[str, ...] = ()
    beside_hint = ""

    def parse_known_args(  # type: ignore[override]  # argparse has overloads for namespaces of other types
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        typed = list(args or ())
        if self._subparsers is None:  # before argparse asks for what a misspelt option stands for
            at = typed.index("--") if "--" in typed else len(typed)
            for word in typed[:at]:
                name = word.partition("=")[0]
                if name.startswith("--") and name not in self._option_string_actions:
                    known = [*self._option_string_actions, *self.beside]
                    raise UsageError(f"{name} is no option of {self.prog}{nearest(name, known)}{self.beside_hint}")
        return super().parse_known_args(typed, namespace)

    def error(self, message: str) -> NoReturn:
        """Raise the complaint with where to read more."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            kind = "command" if isinstance(action, argparse._SubParsersAction) else "choice"
            known = [str(choice) for choice in action.choices]
            said = f"{value!r} is no {kind}" + (nearest(str(value), known) or f" (known: {', '.join(known)})")
            raise argparse.ArgumentError(None if kind == "command" else action, said)


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean x?`` where one of ``known`` is close, else nothing."""
    close = get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
