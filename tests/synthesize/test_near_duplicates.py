import random
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from itertools import product

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from schemas.losses import Loss
from schemas.query import Query
from schemas.video import MODALITIES, EngineStamp
from transforms.synthesize.near_duplicates import (
    DropNearDuplicates,
    Entry,
    Finding,
    compared,
    entry_of,
    merged,
    precedence,
    prefix,
)
from transforms.synthesize.wording import Wording, are_similar, jaccard, wording

WRITER = EngineStamp("rules", "1", "", "0")


def query(query_id: str, text: str, modalities: int = 1, rationale: str = "because") -> Query:
    return Query(query_id, f"v-{query_id}", text, "teacher", "base", "all", rationale, MODALITIES[:modalities], WRITER)


wording_of = cache(wording)


def by_people(query_id: str, text: str, *videos: str) -> Query:
    return Query(query_id, videos[0], text, "human", also_relevant=videos[1:])


def similar_to(one: Query, queries: list[Query], threshold: float) -> list[Query]:
    """The others that are similar to it: all pairs, straight from the rule."""
    return [
        other
        for other in queries
        if other is not one and are_similar(wording_of(one.text), wording_of(other.text), threshold)
    ]


def by_definition(queries: list[Query], threshold: float) -> dict[str, str]:
    """What written queries are dropped for, straight from the rule."""
    dropped = {}
    for late in queries:
        before = [precedence(other) for other in similar_to(late, queries, threshold)]
        if min(before, default=precedence(late)) < precedence(late):
            dropped[late.query_id] = min(before)[1]
    return dropped


def found_by_joining(
    queries: list[Query], threshold: float, splits: dict[str, str] | None = None
) -> dict[str, Finding]:
    """What the transform finds, group by group, in one process."""
    entries = [entry_of(query, splits or {}) for query in queries]
    frequency = Counter(word for entry in entries for word in entry.wording.words)
    groups = defaultdict(list)
    for entry in entries:
        for word in prefix(entry.wording.words, frequency, threshold):
            groups[word].append(entry)
    found = defaultdict(list)
    for group in groups.values():
        for query_id, finding in compared(group, threshold):
            found[query_id].append(finding)
    return {query_id: merged(findings) for query_id, findings in found.items()}


def near_duplicates(queries: list[Query], threshold: float, splits: dict[str, str] | None = None) -> dict[str, str]:
    """The ids of the queries to drop, each with the id of the one that it is dropped for."""
    found = found_by_joining(queries, threshold, splits)
    return {query_id: each.dropped_for[1] for query_id, each in found.items() if each.dropped_for}


def random_queries(seed: int, count: int = 120) -> list[Query]:
    """Texts over a small, skewed vocabulary, many of them copies of others with a word changed or added."""
    rng = random.Random(seed)
    vocabulary = [f"word{letter}" for letter in "abcdefghijklmnopqrstuvwxy"]
    weights = [1 / (i + 1) for i in range(25)]
    texts = ["", "the of it", "the of it"]
    while len(texts) < count:
        if rng.random() < 0.5:
            changed = rng.choice(texts).split()
            if changed:
                place = rng.randrange(len(changed))
                changed[place : place + rng.choice((0, 1))] = [rng.choice(vocabulary)]  # one more, or another
            texts.append(" ".join(changed) or "?")
        else:
            texts.append(" ".join(rng.choices(vocabulary, weights, k=rng.randint(1, 12))))
    return [query(f"q{i:03}", text or "?", rng.randint(0, 4)) for i, text in enumerate(texts)]


def test_texts_of_function_words_are_compared_by_them_and_texts_without_words_by_nothing():
    assert near_duplicates([query("a", "was it her"), query("b", "her it was")], 0.8) == {"b": "a"}
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
    words = "alpha bravo charlie delta echo foxtrot golf".split()
    chain = [query("a", " ".join(words[:4])), query("b", " ".join(words[:5])), query("c", " ".join(words[:6]))]
    assert jaccard(wording(chain[0].text).words, wording(chain[2].text).words) < 0.7
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
    same = Wording(frozenset({"flood", "genoa"}))
    entries = [Entry((0, f"q{i:06}"), same, (f"v{i}",), "train") for i in range(50_000)]

    found = dict(compared(entries, 0.8))

    assert found.pop("q000000") == Finding(None, frozenset(f"v{i}" for i in range(50_000)))
    assert len(found) == 49_999
    assert set(found.values()) == {Finding((0, "q000000"))}


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 1.0])
def test_the_join_finds_what_the_rule_says_in_any_order(threshold: float):
    for seed in range(12):
        queries = random_queries(seed)
        expected = by_definition(queries, threshold)
        assert near_duplicates(queries, threshold) == expected
        random.Random(seed).shuffle(queries)
        assert near_duplicates(queries, threshold) == expected
        assert expected


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_a_query_that_stays_knows_the_videos_of_all_that_are_similar_to_it(threshold: float):
    for seed in range(12):
        queries = random_queries(seed)
        dropped, found = by_definition(queries, threshold), found_by_joining(queries, threshold)
        for one in queries:
            if one.query_id not in dropped:
                alike = {other.video_id for other in similar_to(one, queries, threshold)}
                assert found.get(one.query_id, Finding(None)).videos - {one.video_id} == alike


def test_the_video_of_a_dropped_query_answers_the_one_that_is_kept():
    queries = [query("a", "flood rescue Genoa", 2), query("b", "genoa flood rescues")]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        kept, _ = (pipeline | beam.Create(queries), pipeline | "None" >> beam.Create([])) | DropNearDuplicates()
        assert_that(kept, equal_to([replace(queries[0], also_relevant=("v-b",))]))


def test_queries_by_people_stay_and_know_each_others_videos_where_they_are_of_one_split():
    queries = [by_people("h1", "flood rescue Genoa", "v1", "v3"), by_people("h2", "rescue Genoa flood", "v2")]

    found = found_by_joining(queries, 0.8, {"v1": "train", "v2": "train"})

    assert found == {query_id: Finding(None, frozenset({"v1", "v2", "v3"})) for query_id in ("h1", "h2")}
    assert found_by_joining(queries, 0.8, {"v1": "train"}) == found  # the other has no video, and is dropped for it


def test_similar_queries_by_people_are_never_in_both_splits():
    queries = [by_people("h1", "flood rescue Genoa", "v1"), by_people("h2", "rescue Genoa flood", "v2")]
    queries.append(by_people("h3", "Genoa flood rescue", "v3"))

    assert near_duplicates(queries, 0.8, {"v1": "train", "v2": "validation", "v3": "train"}) == {"h2": "h1", "h3": "h2"}
    assert near_duplicates(queries[:2], 0.8, {"v1": "train", "v2": "validation"}) == {"h2": "h1"}


def test_a_written_query_gives_way_to_one_by_people():
    queries = [query("a", "flood rescue Genoa", 4), by_people("h1", "rescue Genoa flood", "v1")]

    assert near_duplicates(queries, 0.8) == {"a": "h1"}
    assert found_by_joining(queries, 0.8)["h1"].videos == {"v-a", "v1"}


def dropped_as(detail: str, video_id: str, query_id: str) -> Loss:
    return Loss("rejected", "synthesize", "deduplicate", "near duplicate", detail, video_id, query_id)


@pytest.mark.parametrize(("seed", "threshold"), [(100, 0.5), (101, 0.8)])
def test_the_transform_drops_what_the_rule_says(seed: int, threshold: float):
    queries = random_queries(seed)
    dropped = by_definition(queries, threshold)
    expected = [
        dropped_as(f"similar to {dropped[q.query_id]}", q.video_id, q.query_id)
        for q in queries
        if q.query_id in dropped
    ]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        splits = pipeline | "Splits" >> beam.Create([(q.video_id, "train") for q in queries])
        kept, losses = (pipeline | beam.Create(queries), splits) | DropNearDuplicates(threshold)
        ids = kept | beam.Map(lambda one: one.query_id)
        assert_that(ids, equal_to([q.query_id for q in queries if q.query_id not in dropped]), "kept")
        assert_that(losses, equal_to(expected), "losses")


def test_a_query_that_was_written_twice_stays_once():
    twice = [query("a", "flood rescue Genoa", rationale=rationale) for rationale in ("one", "two")]
    with beam.Pipeline(runner="FnApiRunner") as pipeline:
        inputs = pipeline | beam.Create(twice), pipeline | "None" >> beam.Create([])
        kept, losses = inputs | DropNearDuplicates()
        assert_that(kept, equal_to(twice[:1]), "kept")
        assert_that(losses, equal_to([dropped_as("written twice", "v-a", "a")]), "losses")
