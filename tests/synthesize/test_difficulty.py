from dataclasses import replace

import pytest

from prompts.write_queries import Draft
from schemas.check import InvalidRecord
from schemas.difficulty import DIMENSIONS, Difficulty, Ratings
from schemas.video import AsrSegment, Evidence, Metadata
from transforms.synthesize.difficulty import difficulty_of, length_of, lexical_gap

SHOWN = Evidence(asr=(AsrSegment(0.0, 2.0, "everyone rides for free", 0.9),), metadata=Metadata("The first tram"))
RATED = Ratings(0, 1, 2, 0, 0, 0, 0, 0)


def test_what_the_writer_rated_is_kept_and_the_rest_is_computed():
    draft = Draft("who rode the trams for nothing", "because", "cross", ("asr", "metadata"), rated=RATED)

    assert difficulty_of(draft, SHOWN) == Difficulty(RATED, 2, 2 / 3, "keyword")
    assert difficulty_of(replace(draft, rated=None), SHOWN).rated is None


@pytest.mark.parametrize(
    ("text", "gap"),
    [
        ("the free ride of everyone", 0.0),  # by stem, and without function words
        ("free rides on a ferry", 1 / 3),
        ("ferry ferry ferry tram", 0.5),  # distinct words
        ("kostenlose Fahrt", 1.0),
        ("who was it", 0.0),
        ("", 0.0),
    ],
)
def test_the_lexical_gap_is_the_share_of_content_words_that_no_modality_holds(text, gap):
    assert lexical_gap(text, SHOWN) == pytest.approx(gap)


@pytest.mark.parametrize(
    ("words", "length"), [(1, "keyword"), (7, "keyword"), (8, "sentence"), (30, "sentence"), (31, "paragraph")]
)
def test_length_is_told_by_the_number_of_words(words, length):
    assert length_of("tram " * words) == length


@pytest.mark.parametrize("rating", [3, -1])
def test_a_rating_is_0_1_or_2(rating):
    with pytest.raises(InvalidRecord):
        Ratings(*[rating] * len(DIMENSIONS))


@pytest.mark.parametrize(("modalities", "gap", "length"), [(0, 0.5, "sentence"), (1, 1.5, "sentence"), (1, 0.5, "x")])
def test_what_makes_no_sense_is_refused(modalities, gap, length):
    with pytest.raises(InvalidRecord):
        Difficulty(RATED, modalities, gap, length)
