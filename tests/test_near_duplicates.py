import random
from itertools import product

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.losses import Loss
from schemas.query import Query
from schemas.video import MODALITIES, EngineStamp
from transforms.synthesize.near_duplicates import (
    DropNearDuplicates,
    jaccard,
    near_duplicates,
    precedence,
    prefix,
    similar_before,
    word_set,
)

WRITER = EngineStamp("rules", "1", "", "0")


def query(query_id: str, text: str, modalities: int = 1, rationale: str = "because") -> Query:
    return Query(query_id, f"v-{query_id}", text, "teacher", "base", "all", rationale, MODALITIES[:modalities], WRITER)


def by_definition(queries: list[Query], threshold: float) -> dict[str, str]:
    """All pairs, straight from the rule."""
    sets = {q.query_id: word_set(q.text) for q in queries}
    dropped = {}
    for late in queries:
        before = [
            precedence(early)
            for early in queries
            if precedence(early) < precedence(late)
            and sets[early.query_id]
            and sets[late.query_id]
            and jaccard(sets[early.query_id], sets[late.query_id]) >= threshold
        ]
        if before:
            dropped[late.query_id] = min(before)[1]
    return dropped


def random_queries(seed: int, count: int = 120) -> list[Query]:
    """Texts over a small, skewed vocabulary, many of them copies of others with a word changed."""
    rng = random.Random(seed)
    vocabulary = [f"word{i}x" for i in range(25)]
    weights = [1 / (i + 1) for i in range(25)]
    texts = ["", "the of it", "the of it"]
    while len(texts) < count:
        if rng.random() < 0.5:
            changed = rng.choice(texts).split()
            if changed:
                changed[rng.randrange(len(changed))] = rng.choice(vocabulary)
            texts.append(" ".join(changed) or "?")
        else:
            texts.append(" ".join(rng.choices(vocabulary, weights, k=rng.randint(1, 12))))
    return [query(f"q{i:03}", text or "?", rng.randint(0, 4)) for i, text in enumerate(texts)]


def test_words_are_compared_as_a_set_of_stems_without_function_words():
    assert word_set("The mayor was rescuing flooded towns") == word_set("mayors rescued a flood town, town")


def test_texts_of_function_words_are_compared_by_them_and_texts_without_words_by_nothing():
    assert near_duplicates([query("a", "who was it"), query("b", "it was who")], 0.8) == {"b": "a"}
    assert near_duplicates([query("a", "?!"), query("b", "?!")], 0.8) == {}


def test_of_two_similar_queries_the_one_that_needs_more_modalities_stays_then_the_smaller_id():
    assert near_duplicates([query("b", "flood rescue Genoa"), query("a", "genoa flood rescues")], 0.8) == {"b": "a"}
    pair = [query("b", "flood rescue Genoa", 3), query("a", "genoa flood rescues", 2)]
    assert near_duplicates(pair, 0.8) == {"a": "b"}


def test_the_threshold_itself_counts_as_similar():
    four, five = "alpha bravo charlie delta", "alpha bravo charlie delta echo"  # 4 / 5
    assert near_duplicates([query("a", four), query("b", five)], 0.8) == {"b": "a"}
    assert near_duplicates([query("a", four), query("b", five)], 0.81) == {}


def test_small_sets_are_similar_only_when_equal():
    assert near_duplicates([query("a", "alpha bravo"), query("b", "alpha bravo charlie")], 0.8) == {}


def test_a_chain_loses_all_but_its_first():
    words = [f"w{i}x" for i in range(11)]
    chain = [query("a", " ".join(words[:9])), query("b", " ".join(words[1:10])), query("c", " ".join(words[2:11]))]
    assert jaccard(word_set(chain[0].text), word_set(chain[2].text)) < 0.7
    assert near_duplicates(chain, 0.8) == {"b": "a", "c": "b"}


def test_no_pair_at_the_threshold_is_missed_by_rounding():
    for size, shared in product(range(1, 30), range(1, 30)):
        if shared <= size:
            threshold = shared / size
            large = frozenset(f"w{i:02}" for i in range(size))
            small = frozenset(sorted(large, reverse=True)[:shared])  # the last of the order: the hardest to share
            frequency = dict.fromkeys(large, 1)
            common = set(prefix(large, frequency, threshold)) & set(prefix(small, frequency, threshold))
            assert jaccard(large, small) >= threshold
            assert common, (size, shared)


def test_equal_sets_are_grouped_not_compared_pair_by_pair():
    entries = [((0, f"q{i:06}"), frozenset({"flood", "genoa"})) for i in range(50_000)]
    dropped = dict(similar_before(entries, 0.8))
    assert len(dropped) == 49_999
    assert set(dropped.values()) == {(0, "q000000")}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
def test_the_join_finds_what_the_rule_says_in_any_order(threshold: float):
    for seed in range(12):
        queries = random_queries(seed)
        expected = by_definition(queries, threshold)
        assert near_duplicates(queries, threshold) == expected
        random.Random(seed).shuffle(queries)
        assert near_duplicates(queries, threshold) == expected
        assert expected


def dropped_as(detail: str, video_id: str, query_id: str) -> Loss:
    return Loss("rejected", "synthesize", "deduplicate", "near duplicate", detail, video_id, query_id)


@pytest.mark.parametrize(("seed", "threshold"), [(100, 0.5), (101, 0.8)])
def test_the_transform_equals_the_function(seed: int, threshold: float):
    queries = random_queries(seed)
    dropped = near_duplicates(queries, threshold)
    expected = [
        dropped_as(f"similar to {dropped[q.query_id]}", q.video_id, q.query_id)
        for q in queries
        if q.query_id in dropped
    ]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        kept, losses = pipeline | beam.Create(queries) | DropNearDuplicates(threshold)
        assert_that(kept, equal_to([q for q in queries if q.query_id not in dropped]), "kept")
        assert_that(losses, equal_to(expected), "losses")


def test_a_query_that_was_written_twice_stays_once():
    twice = [query("a", "flood rescue Genoa", rationale=rationale) for rationale in ("one", "two")]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        kept, losses = pipeline | beam.Create(twice) | DropNearDuplicates()
        assert_that(kept, equal_to(twice[:1]), "kept")
        assert_that(losses, equal_to([dropped_as("written twice", "v-a", "a")]), "losses")
