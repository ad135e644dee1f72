"""Plain text for terminals and pipes: headings, named fields and wrapped paragraphs, without control characters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from schemas.visible import UNREADABLE, visible

Lines = Iterator[str]

_WIDTH = 100
_NAME_WIDTH = 14


def heading(title: str) -> Lines:
    """A title with a blank line before it."""
    yield from ("", title)


def field(name: str, value: str) -> Lines:
    """A name and its value in two columns; a name that fills its own has a space behind it."""
    yield from wrapped(f"{name:<{_NAME_WIDTH - 1}} {value}", "  ", " " * (_NAME_WIDTH + 2))


def wrapped(text: str, indent: str = "  ", hanging: str | None = None) -> Lines:
    """A paragraph at most _WIDTH wide; its later lines start with ``hanging``."""
    hanging = indent if hanging is None else hanging
    yield from textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=hanging, break_on_hyphens=False
    ) or [""]


def page(lines: Lines) -> str:
    """The lines as text without control characters: evidence is untrusted, and terminals obey escape sequences."""
    return visible("\n".join(lines), UNREADABLE) + "\n"
