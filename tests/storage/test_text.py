import random
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from transforms.text.words import bare, content_words, longest_common_run, stem, words


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


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ជំនន់ភ្នំពេញ", ["ជំន", "នន់", "ន់ភ្នំ", "ភ្នំពេ", "ពេញ"]),
        ("ရန်ကုန်မြို့", ["ရန်", "န်ကု", "ကုန်", "န်မြို့"]),
        ("ວຽງຈັນ", ["ວຽ", "ຽງ", "ງຈັ", "ຈັນ"]),
        ("น้ำท่วม", ["น้\u0e4dา", "าท่", "ท่ว", "วม"]),
        ("人々は", ["人々", "々は"]),
        ("𠮷野家", ["𠮷野", "野家"]),
        ("コーヒー", ["コー", "ーヒ", "ヒー"]),
        ("ᬅᬓᬸᬭ", ["ᬅᬓᬸ", "ᬓᬸᬭ"]),
        ("བོད་ཡིག་གི", ["བོད", "ཡིག", "གི"]),
    ],
)
def test_every_script_without_spaces_becomes_pairs_of_what_readers_take_for_characters(text: str, pairs: list[str]):
    assert words(text) == pairs


def test_punctuation_of_an_unspaced_script_parts_its_words():
    assert words("大雨・洪水、警報。ๆ") == ["大雨", "洪水", "警報", "ๆ"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("مُحَمَّدٌ", "محمد"),
        ("الإسكندرية", "الاسكندرية"),
        ("مســــاء", "مساء"),
        ("مسؤول", "مسئول"),
        ("على", "علي"),
        ("کتاب", "كتاب"),
        ("مدرسة", "مدرسه"),
        ("שָׁלוֹם", "שלום"),
        ("क़लम", "कलम"),
        ("हँस", "हंस"),
        ("क्\u200dष", "क्ष"),
        ("٢٠٢٤", "2024"),
        ("१२", "12"),
        ("İSTANBUL", "istanbul"),
        ("Straße", "STRASSE"),
    ],
)
def test_what_is_a_matter_of_spelling_does_not_tell_words_apart(one: str, other: str):
    assert words(one) == words(other)


def test_a_joiner_that_keeps_persian_letters_apart_parts_words_as_a_space_does():
    assert words("می\u200cشود") == words("می شود")


@pytest.mark.parametrize(
    ("word", "typed"),
    [("são", "sao"), ("ırmak", "irmak"), ("łódź", "lodz"), ("ørsted", "orsted"), ("ёлка", "елка"), ("ά", "α")],
)
def test_accents_are_left_out_by_those_who_type_without(word: str, typed: str):
    assert bare(word) == typed


@pytest.mark.parametrize("word", ["हिन्दी", "が", "한국", "สวั", "தமிழ்"])
def test_signs_that_are_no_accents_stay(word: str):
    assert bare(word) == word


@pytest.mark.parametrize("word", ["हिन्दी", "العَرَبِيَّة", "தமிழ்", "İstanbul"])
def test_combining_marks_do_not_cut_a_word_in_two(word: str):
    assert len(words(word)) == 1


def test_content_words_lose_function_words_only():
    assert content_words("Why did the mayor not order it?") == ["mayor", "order"]


def test_stemming_joins_the_forms_of_an_english_word():
    assert stem("rescued") == stem("rescues") == stem("rescue")
    assert stem("火箭") == "火箭"


@pytest.mark.parametrize(
    ("one", "other", "language"),
    [
        ("наводнения", "наводнение", None),
        ("москвы", "москве", None),
        ("inundações", "inundação", "pt"),
        ("maisons", "maison", "fr"),
        ("häuser", "haus", "de"),
        ("الكتاب", "كتاب", None),
    ],
)
def test_endings_are_taken_off_by_the_words_script_or_the_language_given(one: str, other: str, language: str | None):
    assert stem(one, language) == stem(other, language)


def test_threads_that_stem_at_the_same_time_get_the_stems_of_their_own_words():
    chance = random.Random(0)
    endings = ["ing", "ation", "ness", "fully", "ized", "ies", "edly", "ational"]
    made = ["".join(chance.choices("abcdeiorstlnm", k=6)) + chance.choice(endings) for _ in range(4000)]
    expected = [stem(word) for word in made]
    stem.cache_clear()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(stem, made)) == expected
    finally:
        sys.setswitchinterval(before)


def test_a_language_without_a_stemmer_loses_its_accents_alone():
    assert stem("nhà", "vi") == "nha"


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
