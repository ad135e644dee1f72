import pytest

from transforms.text.words import content_words, longest_common_run, stem, words


def test_words_are_folded_and_keep_their_order():
    assert words("The  QUICK, brown—fox; naïve ＡＢＣ x2") == ["the", "quick", "brown", "fox", "naïve", "abc", "x2"]


def test_an_apostrophe_joins_whichever_way_it_is_typed():
    assert words("Don’t stop the mayor's car") == words("don't STOP the mayor's car")
    assert words("don't") == ["don't"]


def test_underscores_and_punctuation_separate_words():
    assert words("a_b (c) d/e -- f") == ["a", "b", "c", "d", "e", "f"]


def test_composed_and_decomposed_letters_are_the_same_word():
    assert words("Cafe\u0301") == words("Caf\u00e9") == ["caf\u00e9"]


def test_a_run_of_an_unspaced_script_becomes_overlapping_pairs():
    assert words("火箭发射 2024") == ["火箭", "箭发", "发射", "2024"]
    assert words("火") == ["火"]
    assert words("火箭") == ["火箭"]


def test_scripts_next_to_each_other_are_split():
    assert words("iPhone発売") == ["iphone", "発売"]


@pytest.mark.parametrize("word", ["हिन्दी", "العَرَبِيَّة", "தமிழ்", "İstanbul"])
def test_combining_marks_do_not_cut_a_word_in_two(word: str):
    assert len(words(word)) == 1


def test_content_words_lose_function_words_only():
    assert content_words("Why did the mayor not order it?") == ["mayor", "order"]


def test_stemming_joins_the_forms_of_an_english_word():
    assert stem("rescued") == stem("rescues") == stem("rescue")
    assert stem("火箭") == "火箭"


@pytest.mark.parametrize(
    ("left", "right", "run"),
    [
        ("a b c d", "x b c y", 2),
        ("a b c", "a x b y c", 1),
        ("a b", "c d", 0),
        ("", "a b", 0),
        ("a b c", "z z a b c z", 3),
    ],
)
def test_the_longest_common_run_counts_words_in_a_row(left: str, right: str, run: int):
    assert longest_common_run(left.split(), right.split()) == run
    assert longest_common_run(right.split(), left.split()) == run


def test_frequent_words_count_in_long_texts_too():
    assert longest_common_run(["the", "end"], ["the"] * 500 + ["end"]) == 2
