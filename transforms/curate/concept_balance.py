"""Concept balance: words by which a reranker could tell negative queries without looking at any video.

A word that negatives hold and true queries do not is a shortcut (SynViTA, arXiv 2503.18507): a writer's favourite
names, or the "not" of every negation. So a word may be in twice as many negatives as by an even spread, and a few more;
of those that hold a word beyond that, all but so many are dropped, whichever other words they hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from schemas.example import NegativeQueries, NegativeQuery
from schemas.losses import Loss
from transforms.ledger import LOSSES, lost
from transforms.text.words import stem, words

_EVEN = 2  # times the negatives of a true query that holds the word


@dataclass(frozen=True, slots=True)
class Holds:
    """In how many true queries and in how many negatives a word is."""

    positives: int
    negatives: int


@dataclass(frozen=True, slots=True)
class Balance:
    """How many negatives may hold a word: ``spare``, and twice ``kept`` (negatives of a query) for each true query."""

    kept: int
    spare: int

    def most(self, holds: Holds) -> int:
        """The most negatives that may hold a word."""
        return self.spare + _EVEN * self.kept * holds.positives


def terms(text: str) -> frozenset[str]:
    """The stems of all words of a text, function words included: a "not" tells as much as a name."""
    return frozenset(map(stem, words(text)))


def held(group: NegativeQueries) -> dict[str, Holds]:
    """The words of an example's query, as it stands beside its negatives, and of these; none where there are none."""
    if not group.queries:
        return {}
    true = terms(group.true_text)
    found: Counter[str] = Counter(term for query in group.queries for term in terms(query.text))
    return {term: Holds(int(term in true), found[term]) for term in true | found.keys()}


def surplus(query_ids: Iterable[str], holds: Holds, balance: Balance) -> list[str]:
    """Of the negatives that hold a word those to be dropped: all beyond as many as may, by id, which is a hash."""
    return sorted(query_ids)[balance.most(holds) :]


Word = tuple[str, str]  # the split that it is counted in, and the word


@dataclass
class DropOneSided(beam.PTransform):
    """NegativeQueries -> the same without the negatives that words would give away; these go to "losses".

    Words are counted by split: what is only validated with balances nothing that is trained on.
    """

    balance: Balance

    def expand(self, groups: beam.PCollection[NegativeQueries]) -> beam.pvalue.DoOutputsTuple:
        balance = self.balance
        one_sided = (
            groups
            | "Words" >> beam.FlatMap(_words)
            | "Count" >> beam.CombinePerKey(_added)
            | "One-sided" >> beam.Filter(lambda item: item[1].negatives > balance.most(item[1]))
        )
        dropped = (
            groups
            | "Holding" >> beam.FlatMap(_holding, beam.pvalue.AsDict(one_sided))
            | "Of a word" >> beam.GroupByKey()
            | "Surplus" >> beam.FlatMap(_surplus, beam.pvalue.AsDict(one_sided), balance)
        )
        keyed = groups | "Key" >> beam.Map(lambda group: (group.query_id, group))
        return (
            {"groups": keyed, "dropped": dropped}
            | "Join" >> beam.CoGroupByKey()
            | "Drop" >> beam.FlatMapTuple(_drop).with_outputs(LOSSES, main="groups")
        )


def _words(group: NegativeQueries) -> Iterator[tuple[Word, Holds]]:
    for term, holds in held(group).items():
        yield (group.example.split, term), holds


def _added(counts: Iterable[Holds]) -> Holds:
    found = list(counts)
    return Holds(sum(each.positives for each in found), sum(each.negatives for each in found))


def _holding(group: NegativeQueries, one_sided: Mapping[Word, Holds]) -> Iterator[tuple[Word, tuple[str, str]]]:
    for query in group.queries:
        for term in sorted(terms(query.text)):
            if (group.example.split, term) in one_sided:
                yield (group.example.split, term), (query.query_id, group.query_id)


def _surplus(
    held_by: tuple[Word, Iterable[tuple[str, str]]], one_sided: Mapping[Word, Holds], balance: Balance
) -> Iterator[tuple[str, tuple[str, str]]]:
    word, holding = held_by
    groups, holds = dict(holding), one_sided[word]
    for query_id in surplus(groups, holds, balance):
        yield (
            groups[query_id],
            (query_id, f"{word[1]!r} is in {holds.negatives} negatives, {holds.positives} positives"),
        )


def _drop(_: str, joined: Mapping[str, Iterable[Any]]) -> Iterator[NegativeQueries | beam.pvalue.TaggedOutput]:
    why = dict(sorted(joined["dropped"], reverse=True))  # of several words the first
    for group in joined["groups"]:
        for query in group.queries:
            if query.query_id in why:
                yield rejected(group, query, "one-sided word", why[query.query_id])
        yield replace(group, queries=tuple(query for query in group.queries if query.query_id not in why))


def rejected(group: NegativeQueries, query: NegativeQuery, reason: str, why: str) -> beam.pvalue.TaggedOutput:
    """A negative that is left out, on its way to the books."""
    detail = f"{query.edit}: {query.text} ({why})"
    return lost(Loss("rejected", "curate", "negatives", reason, detail, group.video_id, group.query_id))
