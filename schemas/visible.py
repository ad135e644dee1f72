"""Visible text: what is kept of text that strangers, recognisers and models wrote, which can hold any character."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

UNREADABLE = "\N{REPLACEMENT CHARACTER}"
_BREAK = re.compile("\r\n|[\r\v\f\x1c\x1d\x1e\x85\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")  # Unicode's category Cc, which never changes
_JOINERS = ("\u200c", "\u200d")  # between two letters of Persian and Indic scripts, or two emoji
_EMOJI_STYLES = ("\ufe0e", "\ufe0f")  # after a symbol, digit or mark: shown as text, or in colours
# Unicode's Default_Ignorable_Code_Point beyond the categories C*: fillers and variation selectors, shown as nothing.
_IGNORED = frozenset(
    "\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u3164\uffa0"
    + "".join(map(chr, (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))))
)


def is_invisible(character: str) -> bool:
    """Whether a character shows nothing: controls, overrides of direction, fillers, surrogates, private use."""
    return unicodedata.category(character)[0] == "C" or character in _IGNORED


def is_blank(character: str) -> bool:
    """Whether a character is white space or invisible, which an id holds none of."""
    return character.isspace() or is_invisible(character)


def visible(text: str, instead: str = "") -> str:
    """``text`` with its line breaks and tabs, and with ``instead`` in place of every other invisible character.

    The two joiners and the emoji styles stay where scripts and emoji need them, and nowhere else.
    """
    if text.isascii() and text.isprintable():
        return text
    lines = _BREAK.sub("\n", text)
    dropped = {character for character in set(lines) if is_invisible(character)}.difference("\n\t")
    if not dropped:
        return lines
    if dropped.isdisjoint(_JOINERS) and dropped.isdisjoint(_EMOJI_STYLES):
        return lines.translate(dict.fromkeys(map(ord, dropped), instead))
    return "".join(instead if drop else character for character, drop in _with_drops(lines))


def one_line(text: str) -> str:
    """``text`` on one line: control characters count as white space, whose runs become one space.

    Other invisible characters are dropped, as ``visible`` does.
    """
    return " ".join(visible(_CONTROL.sub(" ", text)).split())


def _with_drops(text: str) -> Iterator[tuple[str, bool]]:
    for before, character, after in zip(("", *text), text, (*text[1:], ""), strict=False):
        if character in _JOINERS:
            yield character, not (_joins(before) and _joins(after))
        elif character in _EMOJI_STYLES:
            yield character, not before or is_invisible(before) or unicodedata.category(before)[0] not in "SNP"
        else:
            yield character, character not in "\n\t" and is_invisible(character)


def _joins(character: str) -> bool:
    """Whether a joiner beside this character is at work: caseless letters, their signs, and emoji."""
    if not character or character in _IGNORED:
        return character in _EMOJI_STYLES
    return unicodedata.category(character) in ("Lo", "Mn", "Mc", "So", "Sk")
