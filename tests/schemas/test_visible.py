import random
import sys
import unicodedata

from schemas.visible import _with_drops, is_invisible, one_line, visible

BREAKS = dict.fromkeys(map(ord, "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), "\n")


def visible_one_by_one(text: str, instead: str = "") -> str:
    """What ``visible`` says of itself, asked of every single character."""
    lines = text.replace("\r\n", "\n").translate(BREAKS)
    return "".join(instead if drop else character for character, drop in _with_drops(lines))


def one_line_one_by_one(text: str) -> str:
    spaced = "".join(" " if unicodedata.category(c) == "Cc" else c for c in text)
    return " ".join(visible_one_by_one(spaced).split())


DROPPED = "\ue000"  # for private use, so that it never is what was kept


def test_every_code_point_is_kept_or_dropped_by_the_rules_alone():
    for start in range(0, sys.maxunicode + 1, 64):
        text = "".join(map(chr, range(start, start + 64)))
        kept = visible_one_by_one(text, DROPPED)
        assert visible(text, DROPPED) == kept
        has_controls = start < 0xA0  # which never change
        expected = one_line_one_by_one(text) if has_controls else " ".join(kept.replace(DROPPED, "").split())
        assert one_line(text) == expected


def test_texts_of_any_characters_are_kept_or_dropped_by_the_rules_alone():
    rng = random.Random(0)
    special = "\r\n\t \x00\x85\u200b\u200c\u200d\ufe0e\ufe0f\u202e\u2028\ue000\ud800a1कष☀👩\U000e0100\u3164"
    for _ in range(2_000):
        text = "".join(rng.choices(special, k=rng.randint(0, 8)))
        assert visible(text) == visible_one_by_one(text)
        assert one_line(text) == one_line_one_by_one(text)


def test_a_character_that_shows_nothing_is_invisible():
    assert [character for character in "a\u200b\ue000é\u3164☀" if is_invisible(character)] == [
        "\u200b",
        "\ue000",
        "\u3164",
    ]
