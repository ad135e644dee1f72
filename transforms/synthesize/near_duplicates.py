"""Near-duplicate queries: an exact set-similarity self-join over all queries, and the rule which of two goes.

Two queries are similar as ``are_similar`` says: the Jaccard index of their stemmed content words reaches the threshold,
and no number, name or replaced word tells them apart. A written query is dropped exactly if a similar one comes before
it, where queries by people come first, then those that need more modalities, and query ids break ties. One by people is
dropped only for a similar one by people before it whose video is of the other split, for else a question would be in
both. The rule looks at pairs only, so its outcome depends on no order; of every pair of similar written queries at most
one is kept, and a chain A ~ B ~ C loses both B and C though A and C may differ.

The videos of a query answer those that are similar to it, so a query that stays has them among its ``also_relevant``,
and none of them becomes its negative.

Query texts of function words alone are compared by those; texts without any word are similar to nothing. Small sets
need no rule of their own: at 0.8, sets of fewer than four words are similar only when they are equal.

All pairs are found without comparing all pairs by the prefix filter (Chaudhuri, Ganti, Kaushik 2006; Bayardo, Ma,
Srikant 2007): order all words, rarest first; two sets that share at least o of their words share one of the first
|set| - o + 1 in that order, and Jaccard >= t implies o / |set| >= t.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import apache_beam as beam

from schemas.example import Split
from schemas.fingerprint import canonical_json
from schemas.losses import Loss
from schemas.query import Query
from schemas.video import MODALITIES
from transforms.ledger import LOSSES, lost
from transforms.synthesize.wording import Wording, are_similar, wording

Key = tuple[int, str]  # the order of queries: minus the number of modalities, then the query id
_BY_PEOPLE = -len(MODALITIES) - 1


def precedence(query: Query) -> Key:
    """The key by which the first of two similar queries is kept: by people first, more modalities, the smaller id."""
    return -len(query.modalities) if query.source == "teacher" else _BY_PEOPLE, query.query_id


@dataclass(frozen=True, slots=True)
class Entry:
    """What of a query is compared; ``videos`` answer it, ``split`` is that of its own video, "" if it is not there."""

    key: Key
    wording: Wording
    videos: tuple[str, ...]
    split: str

    @property
    def is_by_people(self) -> bool:
        """Whether people wrote the query."""
        return self.key[0] == _BY_PEOPLE


def entry_of(query: Query, splits: Mapping[str, Split]) -> Entry:
    """The entry of a query."""
    videos = (query.video_id, *query.also_relevant)
    return Entry(precedence(query), wording(query.text), videos, splits.get(query.video_id, ""))


@dataclass(frozen=True, slots=True)
class Finding:
    """What is found of a query: the first one that it is dropped for, if any, and the videos of those like it."""

    dropped_for: Key | None
    videos: frozenset[str] = frozenset()


def merged(findings: Iterable[Finding]) -> Finding:
    """All that several comparisons found of a query."""
    found = list(findings)
    keys = [each.dropped_for for each in found if each.dropped_for is not None]
    return Finding(min(keys, default=None), frozenset().union(*(each.videos for each in found)))


def prefix(word_set: frozenset[str], frequency: Mapping[str, int], threshold: float) -> list[str]:
    """The words, rarest first (ties by word), of which any set that is similar to this one has at least one, too.

    ``frequency`` says in how many queries each word occurs; it steers the cost and not the outcome.
    """
    size = len(word_set)
    # The same division as in jaccard: rounding is monotone, so that no pair at the threshold can be missed.
    overlap = next((n for n in range(1, size + 1) if n / size >= threshold), size)
    return sorted(word_set, key=lambda word: (frequency[word], word))[: size - overlap + 1] if size else []


def compared(entries: Iterable[Entry], threshold: float) -> Iterator[tuple[str, Finding]]:
    """What comparing ``entries`` with each other finds, by the id of each query of which it finds anything.

    Equal wordings are compared once, whatever their number, and sets whose sizes rule the threshold out not at all.
    """
    members: dict[Wording, list[Entry]] = defaultdict(list)
    for entry in entries:
        members[entry.wording].append(entry)
    similar = {one: [one] for one in members}
    for left, right in combinations(members, 2):
        if are_similar(left, right, threshold):
            similar[left].append(right)
            similar[right].append(left)
    first = {one: min(entry.key for entry in group) for one, group in members.items()}
    by_people = {one: [entry for entry in group if entry.is_by_people] for one, group in members.items()}
    for one, group in members.items():
        before = min(first[other] for other in similar[one])
        people = [entry for other in similar[one] for entry in by_people[other]]
        videos: frozenset[str] | None = None  # of all that are similar, gathered for those alone that stay
        for entry in group:
            dropped_for = _before(entry, people) if entry.is_by_people else before if before < entry.key else None
            if dropped_for is not None:
                yield entry.key[1], Finding(dropped_for)
                continue
            if videos is None:
                videos = frozenset(v for other in similar[one] for each in members[other] for v in each.videos)
            if not videos.issubset(entry.videos):
                yield entry.key[1], Finding(None, videos)


def _before(entry: Entry, people: Iterable[Entry]) -> Key | None:
    """The first of the similar queries by people that must not be in the same set as ``entry``, and come before it."""
    crossing = (each.key for each in people if each.split and entry.split and each.split != entry.split)
    return min((key for key in crossing if key < entry.key), default=None)


@dataclass
class DropNearDuplicates(beam.PTransform):
    """(Query, (video_id, split)) -> Query without near-duplicates, which go to the tag "losses".

    One group per word that occurs in some prefix, which holds the queries with that word in their prefix. Taking the
    rarest words first keeps the groups small: common words come into a prefix only where nearly all words are common.
    """

    threshold: float = 0.8

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.pvalue.DoOutputsTuple:
        queries, splits = inputs
        entries = queries | "Words" >> beam.Map(entry_of, beam.pvalue.AsDict(splits))
        frequency = (
            entries | "Each word" >> beam.FlatMap(lambda entry: entry.wording.words) | beam.combiners.Count.PerElement()
        )
        found = (
            entries
            | "Prefix" >> beam.FlatMap(_by_prefix_word, beam.pvalue.AsDict(frequency), threshold=self.threshold)
            | "Group" >> beam.GroupByKey()
            | "Compare" >> beam.FlatMapTuple(lambda _, bucket: compared(bucket, self.threshold))
            | "All found" >> beam.CombinePerKey(merged)
        )
        keyed = queries | "Key" >> beam.Map(lambda query: (query.query_id, query))
        return (
            {"queries": keyed, "found": found}
            | "Join" >> beam.CoGroupByKey()
            | "Drop" >> beam.FlatMapTuple(_drop).with_outputs(LOSSES, main="queries")
        )


def _by_prefix_word(entry: Entry, frequency: Mapping[str, int], threshold: float) -> Iterator[tuple[str, Entry]]:
    return ((word, entry) for word in prefix(entry.wording.words, frequency, threshold))


def _drop(query_id: str, joined: Mapping[str, Iterable[Any]]) -> Iterator[Query | beam.pvalue.TaggedOutput]:
    found: Finding = next(iter(joined["found"]), Finding(None))
    # Equal ids are one query written twice (same video, variant and text); its rationales may differ.
    query, *copies = sorted(joined["queries"], key=canonical_json)
    if found.dropped_for is None:
        others = found.videos.union(query.also_relevant) - {query.video_id}
        yield replace(query, also_relevant=tuple(sorted(others)))
    else:
        yield _rejected(query, f"similar to {found.dropped_for[1]}")
    yield from (_rejected(copy, "written twice") for copy in copies)


def _rejected(query: Query, detail: str) -> beam.pvalue.TaggedOutput:
    about = (query.video_id, query.query_id)
    return lost(Loss("rejected", "synthesize", "deduplicate", "near duplicate", detail, *about))
