import math
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.check import InvalidRecord
from transforms.engines.bm25 import Bm25
from transforms.engines.registry import find_engine

DOCUMENTS = [
    ("v1", "A rocket launch was delayed by wind"),
    ("v2", "The rockets, the rockets! Launching at dawn"),
    ("v3", "A cooking show about bread"),
    ("v4", ""),
    ("v5", "火箭发射推迟"),
]


def search(text: str, depth: int = 10, documents=DOCUMENTS, engine: Bm25 | None = None):
    return list((engine or Bm25()).load().index(documents).search("q", text, depth))


def test_the_score_is_that_of_lucenes_formula():
    # Content words: rocket launch delay wind; rocket rocket launch dawn; cook show about bread; none; 5 pairs.
    mean_length = (4 + 4 + 4 + 0 + 5) / 5
    idf = math.log(1 + (5 - 1 + 0.5) / (1 + 0.5))
    expected = idf * 1 / (1 + 1.5 * (1 - 0.75 + 0.75 * 4 / mean_length))
    found = search("bread")
    assert [c.video_id for c in found] == ["v3"]
    assert found[0].score == pytest.approx(expected, rel=1e-12)


def test_forms_of_a_word_match_and_more_of_it_ranks_higher():
    assert [(c.video_id, c.rank) for c in search("which ROCKET")] == [("v2", 1), ("v1", 2)]


def test_scripts_without_spaces_are_searchable():
    assert [c.video_id for c in search("火箭推迟了")] == ["v5"]


WORLD = [
    ("ar", "فيضانات في الاسكندرية اليوم"),
    ("en", "a quiet morning at the harbour"),
    ("hi", "मुंबई में बाढ़ से सड़कें बंद हैं"),
    ("ja", "東京で地震が発生しました"),
    ("km", "ទឹកជំនន់នៅទីក្រុងភ្នំពេញថ្ងៃនេះ"),
    ("my", "ယနေ့ရန်ကုန်မြို့တွင်ရေကြီးမှုဖြစ်ပွားသည်"),
    ("pt", "As inundações em São Luís deixaram muitas famílias sem casa"),
    ("ru", "Наводнение в Москве"),
    ("th", "น้ำท่วมที่เชียงใหม่วันนี้"),
    ("zh", "火箭发射推迟到明天"),
    ("tr", "IRMAK TAŞTI, İSTANBUL SEL HABERLERİ"),
]


@pytest.mark.parametrize(
    ("text", "video_id"),
    [
        ("الإسكندرية", "ar"),
        ("فَيَضانات", "ar"),
        ("harbours", "en"),
        ("मुंबई की बाढ़", "hi"),
        ("東京の地震", "ja"),
        ("ទឹកជំនន់ភ្នំពេញ", "km"),
        ("ရန်ကုန်ရေကြီးမှု", "my"),
        ("inundação", "pt"),
        ("inundacoes", "pt"),
        ("familia", "pt"),
        ("sao luis", "pt"),
        ("наводнения Москвы", "ru"),
        ("น้ำท่วมเชียงใหม่", "th"),
        ("istanbul", "tr"),
        ("ırmak taştı", "tr"),
        ("火箭推迟了", "zh"),
    ],
)
def test_a_text_of_any_language_is_found_by_other_spellings_and_endings(text: str, video_id: str):
    assert [c.video_id for c in search(text, documents=WORLD)] == [video_id]


def test_documents_of_other_languages_change_no_ranks_of_english_ones():
    alone = search("which rocket launched", documents=DOCUMENTS)
    beside = search("which rocket launched", documents=[*DOCUMENTS, *WORLD])
    assert [c.video_id for c in beside] == [c.video_id for c in alone]


@pytest.mark.parametrize("text", ["", "the of it", "zebra", "?!"])
def test_videos_that_share_no_word_are_not_retrieved(text: str):
    assert search(text) == []


def test_a_word_that_all_documents_have_still_retrieves_them():
    documents = [("b", "flood rescue"), ("a", "flood damage")]
    assert [c.video_id for c in search("flood", documents=documents)] == ["a", "b"]


def test_ties_are_broken_by_id_also_at_the_depth():
    documents = [(f"v{i}", "flood rescue") for i in range(9)]
    random.Random(0).shuffle(documents)
    found = search("flood", depth=4, documents=documents)
    assert [c.video_id for c in found] == ["v0", "v1", "v2", "v3"]
    assert len({c.score for c in found}) == 1


def test_the_order_of_the_documents_changes_nothing():
    rng = random.Random(1)
    words = [f"w{i}x" for i in range(40)]
    documents = [(f"v{i:03}", " ".join(rng.choices(words, k=rng.randint(0, 30)))) for i in range(200)]
    shuffled = rng.sample(documents, len(documents))
    one, other = (Bm25().load().index(iter(d)) for d in (documents, shuffled))
    for _ in range(20):
        text = " ".join(rng.choices(words, k=4))
        assert one.search("q", text, 50) == other.search("q", text, 50)


def test_threads_share_an_index():
    index = Bm25().load().index(DOCUMENTS)
    texts = ["rocket launch", "bread", "wind", "火箭"] * 50
    alone = [index.search("q", text, 10) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: index.search("q", text, 10), texts)) == alone


@pytest.mark.parametrize("documents", [[], [("a", ""), ("b", "the of")]])
def test_a_corpus_without_words_answers_nothing(documents: list[tuple[str, str]]):
    assert search("flood", documents=documents) == []


def test_a_video_that_occurs_twice_is_an_error():
    with pytest.raises(ValueError, match="'a' occurs twice"):
        search("x", documents=[("a", "x"), ("b", "y"), ("a", "z")])


def test_options_are_checked_and_stamped():
    with pytest.raises(InvalidRecord):
        Bm25(k1=0)
    with pytest.raises(InvalidRecord):
        Bm25(b=1.5)
    assert find_engine("first_stage", {"engine": "bm25", "k1": 0.9}) == Bm25(k1=0.9)
    assert Bm25().stamp().name == "bm25"
    assert Bm25().stamp() != Bm25(b=0.4).stamp()


@pytest.mark.parametrize("method", ["lucene", "robertson", "atire"])
def test_every_variant_retrieves_only_what_matches(method):
    assert {c.video_id for c in search("rocket bread", engine=Bm25(method=method))} <= {"v1", "v2", "v3"}
