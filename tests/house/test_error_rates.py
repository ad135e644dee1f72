import pytest

from tests.support.error_rates import character_error_rate, word_error_rate


@pytest.mark.parametrize(
    ("said", "heard", "edits"),
    [("a b c d", "a b c d", 0), ("a b c d", "A, b. C d!", 0), ("a b c d", "a x c d", 1), ("a b c d", "b c", 2)],
)
def test_a_word_error_is_an_edit_per_word_said(said, heard, edits):
    assert word_error_rate(said, heard) == edits / 4


@pytest.mark.parametrize(
    ("written", "read", "edits"),
    [
        ("LINE 5", "line  5", 0),
        ("LINE 5", "LINE S", 1),
        ("LINE 5", "LNE", 3),
        ("LINE 5", "", 6),
        ("LINE 5", "LINE 55", 1),
    ],
)
def test_a_character_error_is_an_edit_per_character_written(written, read, edits):
    assert character_error_rate(written, read) == edits / 6
