"""Near-duplicate queries: an exact set-similarity self-join over all queries, and the rule which of two goes.

Two queries are similar when the Jaccard index of their sets of stemmed content words reaches the threshold. A query is
dropped exactly if a similar one comes before it, where queries that need more modalities come first and query ids break
ties. The rule looks at pairs only, so its outcome depends on no order; of every pair of similar queries at most one is
kept, and a chain A ~ B ~ C loses both B and C though A and C may differ.

Query texts of function words alone are compared by those; texts without any word are similar to nothing. Small sets
need no rule of their own: at 0.8, sets of fewer than four words are similar only when they are equal.

All pairs are found without comparing all pairs by the prefix filter (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma,
Srikant 2007): order all words, rarest first; two sets that share at least o of their words share one of the first
|set| - o + 1 in that order, and Jaccard >= t implies o / |set| >= t.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import apache_beam as beam

from schemas.fingerprint import canonical_json
from schemas.losses import Loss
from schemas.query import Query
from schemas.video import MODALITIES
from transforms.ledger import LOSSES, lost
from transforms.text.words import content_words, stem, words

Key = tuple[int, str]  # the order of queries: minus the number of modalities, then the query id
Entry = tuple[Key, frozenset[str]]


def word_set(text: str) -> frozenset[str]:
    """The stemmed content words of ``text``, or all its words where it has no content word."""
    return frozenset(stem(word) for word in content_words(text) or words(text))


def precedence(query: Query) -> Key:
    """The key by which the first of two similar queries is kept: by people first, more modalities, the smaller id."""
    return -len(query.modalities) if query.source == "teacher" else -len(MODALITIES) - 1, query.query_id


def jaccard(left: frozenset[str], right: frozenset[str]) -> float:
    """|left and right| / |left or right|; both must not be empty."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared)


def prefix(word_set: frozenset[str], frequency: Mapping[str, int], threshold: float) -> list[str]:
    """The words, rarest first (ties by word), of which any set that is similar to this one has at least one, too.

    ``frequency`` says in how many queries each word occurs; it steers the cost and not the outcome.
    """
    size = len(word_set)
    # The same division as in jaccard: rounding is monotone, so that no pair at the threshold can be missed.
    overlap = next((n for n in range(1, size + 1) if n / size >= threshold), size)
    return sorted(word_set, key=lambda word: (frequency[word], word))[: size - overlap + 1] if size else []


def similar_before(entries: Iterable[Entry], threshold: float) -> Iterator[tuple[str, Key]]:
    """For each entry that has a similar one before it among ``entries``: its query id and the first such entry's key.

    Equal sets are compared once, whatever their number, and sets whose sizes rule the threshold out not at all.
    """
    members: dict[frozenset[str], list[Key]] = defaultdict(list)
    for key, word_set in entries:
        members[word_set].append(key)
    first = {word_set: min(keys) for word_set, keys in members.items()}
    blamed = dict(first)
    for small, large in combinations(sorted(members, key=len), 2):
        if len(small) / len(large) >= threshold and jaccard(small, large) >= threshold:
            blamed[small] = min(blamed[small], first[large])
            blamed[large] = min(blamed[large], first[small])
    for word_set, keys in members.items():
        yield from ((key[1], blamed[word_set]) for key in keys if blamed[word_set] < key)


def near_duplicates(queries: Iterable[Query], threshold: float) -> dict[str, str]:
    """The ids of the queries to drop, each with the id of the first query that is similar to it (see the module)."""
    entries = [(precedence(query), word_set(query.text)) for query in queries]
    frequency = Counter(word for _, words_of in entries for word in words_of)
    buckets: dict[str, list[Entry]] = defaultdict(list)
    for key, words_of in entries:
        for word in prefix(words_of, frequency, threshold):
            buckets[word].append((key, words_of))
    blamed: dict[str, Key] = {}
    for bucket in buckets.values():
        for query_id, key in similar_before(bucket, threshold):
            blamed[query_id] = min(key, blamed.get(query_id, key))
    return {query_id: key[1] for query_id, key in blamed.items()}


@dataclass
class DropNearDuplicates(beam.PTransform):
    """Query -> Query without near-duplicates; those go to the tag "losses". Equals near_duplicates,
    but for queries by people: written queries give way to them, and they themselves are never dropped.

    One group per word that occurs in some prefix, which holds the queries with that word in their prefix. Taking the
    rarest words first keeps the groups small: common words come into a prefix only where nearly all words are common.
    """

    threshold: float = 0.8

    def expand(self, queries: beam.PCollection[Query]) -> beam.pvalue.DoOutputsTuple:
        entries = queries | "Words" >> beam.Map(lambda query: (precedence(query), word_set(query.text)))
        frequency = (
            entries | "Each word" >> beam.FlatMapTuple(lambda _, words_of: words_of) | beam.combiners.Count.PerElement()
        )
        blamed = (
            entries
            | "Prefix" >> beam.FlatMap(_by_prefix_word, beam.pvalue.AsDict(frequency), threshold=self.threshold)
            | "Group" >> beam.GroupByKey()
            | "Compare" >> beam.FlatMapTuple(lambda _, bucket: similar_before(bucket, self.threshold))
            | "First" >> beam.CombinePerKey(min)
        )
        keyed = queries | "Key" >> beam.Map(lambda query: (query.query_id, query))
        return (
            {"queries": keyed, "blamed": blamed}
            | "Join" >> beam.CoGroupByKey()
            | "Drop" >> beam.FlatMapTuple(_drop).with_outputs(LOSSES, main="queries")
        )


def _by_prefix_word(entry: Entry, frequency: Mapping[str, int], threshold: float) -> Iterator[tuple[str, Entry]]:
    return ((word, entry) for word in prefix(entry[1], frequency, threshold))


def _drop(query_id: str, joined: Mapping[str, Iterable[Any]]) -> Iterator[Query | beam.pvalue.TaggedOutput]:
    blamed: Key | None = next(iter(joined["blamed"]), None)
    # Equal ids are one query written twice (same video, variant and text); its rationales may differ.
    query, *copies = sorted(joined["queries"], key=canonical_json)
    if blamed is None or query.source == "human":
        yield query
    else:
        yield _rejected(query, f"similar to {blamed[1]}")
    yield from (_rejected(copy, "written twice") for copy in copies)


def _rejected(query: Query, detail: str) -> beam.pvalue.TaggedOutput:
    about = (query.video_id, query.query_id)
    return lost(Loss("rejected", "synthesize", "deduplicate", "near duplicate", detail, *about))
