"""Queries that ask in other words for what a test set asks for: told by the vectors of a first stage's embedder.

Vectors know what is spoken of, and little of what is asked: of forty questions put in other words, and as many others
about the same things, each with words of its question, those of the embedded default tell half of either at a cosine of
0.9, and no two of 7,020 pairs about different things (benchmarks/README.md). What is lost is that half of the others.
"""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from schemas.losses import Loss
from schemas.query import Query, QueryText
from transforms.decontaminate.decontaminate import IN_TEST_SET
from transforms.decontaminate.test_sets import AlikeQueries, TestSet, texts_of
from transforms.journal.budget import Deferred
from transforms.journal.journal import Journal
from transforms.journal.record import RecordedFailure
from transforms.ledger import LOSSES, lost
from transforms.progress import Advance, advance
from transforms.protocols.embed import Embedding
from transforms.protocols.engine import Engine
from transforms.search.pack import Pack, open_pack, write_pack
from transforms.search.search import SearchOptions, search_many
from transforms.workers.recorded import WORK, recorded_map

DECONTAMINATE = "decontaminate"

_SEARCH = SearchOptions()
VectorsOf = Callable[[QueryText], Embedding]


@dataclass(frozen=True, slots=True)
class TestQuery:
    """A query of a test set, by the set's name."""

    __test__ = False  # pytest takes classes of such a name for tests

    test_set: str
    asked: QueryText


class Packs(Mapping[str, Pack]):
    """The vectors of each test set's queries, by its name, and the texts of these by set and id."""

    def __init__(self, embedded: Sequence[tuple[TestQuery, Embedding]]) -> None:
        by_set: defaultdict[str, list[tuple[str, Embedding]]] = defaultdict(list)
        self.texts = {(query.test_set, query.asked.query_id): query.asked.text for query, _ in embedded}
        for query, embedding in embedded:
            by_set[query.test_set].append((query.asked.query_id, embedding))
        self._packs: dict[str, Pack] = {}
        with tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
            for name, entries in sorted(by_set.items()):
                path = os.path.join(folder, str(len(self._packs)))
                write_pack(path, sorted(entries, key=lambda entry: entry[0]))
                self._packs[name] = open_pack(path)  # what is mapped stays, though its file is removed

    def __getitem__(self, name: str) -> Pack:
        return self._packs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packs)

    def __len__(self) -> int:
        return len(self._packs)


def alike(embedding: Embedding, packs: Packs, rules: Mapping[str, AlikeQueries]) -> str | None:
    """Which query of which test set a query is alike to, by the rule of each, and how much; None where there is none.

    Of several the nearest of the first set is told.
    """
    for name, rule in rules.items():
        if name in packs:
            nearest = search_many(packs[name], [embedding], 1, _SEARCH)[0].candidates
            if nearest and nearest[0].score >= rule.cosine:
                query_id, cosine = nearest[0].video_id, nearest[0].score
                text = packs.texts[name, query_id]
                return f"{name}: query {query_id}: a cosine of {cosine:.3f} by {rule.run}: {text}"
    return None


@dataclass
class DropAlike(beam.PTransform):
    """Query -> Query that is alike to none of the test sets, and WORK; those that are go to "losses".

    ``vectors_of`` gives the vectors of ``run``, which ``engine`` makes. Where one is left for a later run, so is
    whatever it is compared with; a journal that only looks lets it pass. "tests" are all test queries, "embedded" those
    with vectors, "unembedded" the losses of the others.
    """

    run: str
    test_sets: Sequence[TestSet]
    vectors_of: VectorsOf
    engine: Engine | None
    journal: Journal

    def expand(self, queries: beam.PCollection[Query]) -> dict[str, beam.PCollection]:
        sets = queries.pipeline | "Sets" >> beam.Create(self.test_sets, reshuffle=False)
        tests = sets | "Test queries" >> beam.FlatMap(read_tests)
        step = recorded_map(self.journal, self.engine, _embed_test, self.run, self.vectors_of)
        due = tests | "Due tests" >> Advance("embed_query", "in")
        known = due | "Embed tests" >> step.with_outputs(LOSSES, WORK, main="embedded")
        step = recorded_map(self.journal, self.engine, _embed, self.vectors_of, self.journal.look_only)
        due = queries | "Due" >> Advance("embed_query", "in")
        asked = due | "Embed" >> step.with_outputs(LOSSES, WORK, main="embedded")

        rules = {one.name: one.vectors for one in self.test_sets if one.vectors is not None}
        waiting = known[LOSSES] | "Waiting" >> beam.Filter(lambda loss: loss.kind == "deferred")
        given = (beam.pvalue.AsList(known.embedded), beam.pvalue.AsList(waiting))
        compare = beam.ParDo(_Compare(rules, self.journal.look_only), *given)
        compared = asked.embedded | "Compare" >> compare.with_outputs(LOSSES, main="queries")
        return {
            "queries": compared.queries,
            "losses": (asked[LOSSES], compared[LOSSES]) | "Lost" >> beam.Flatten(),
            "tests": tests,
            "embedded": known.embedded,
            "unembedded": known[LOSSES],
            WORK: (known[WORK], asked[WORK]) | "Work" >> beam.Flatten(),
        }


def tests_step(run: str) -> str:
    """The ledger's line of a run's test queries."""
    return f"embed test queries {run}"


def read_tests(test_set: TestSet) -> Iterator[TestQuery]:
    """The queries of a test set, as they are in its file."""
    for query_id, text in texts_of(test_set.queries).items() if test_set.queries else ():
        yield TestQuery(test_set.name, QueryText(query_id, text))


def _embed_test(query: TestQuery, run: str, vectors_of: VectorsOf) -> Iterator[Any]:
    which = f"{query.test_set}: query {query.asked.query_id}"
    try:
        yield query, vectors_of(query.asked)
        advance("embed_query", "done")
    except Deferred as deferred:
        advance("embed_query", "deferred")
        yield lost(Loss("deferred", "synthesize", tests_step(run), deferred.reason, which))
    except RecordedFailure as failure:
        advance("embed_query", "failed")
        message = f"{which}: {failure.message}"
        yield lost(Loss("failed", "synthesize", tests_step(run), failure.error_class, message))


def _embed(query: Query, vectors_of: VectorsOf, look_only: bool) -> Iterator[Any]:
    about = (query.video_id, query.query_id)
    try:
        yield query, vectors_of(QueryText(query.query_id, query.text))
        advance("embed_query", "done")
    except Deferred as deferred:
        advance("embed_query", "deferred")
        yield lost(Loss("deferred", "synthesize", DECONTAMINATE, deferred.reason, "", *about))
        if look_only:
            yield query, None
    except RecordedFailure as failure:
        advance("embed_query", "failed")
        yield lost(Loss("failed", "synthesize", DECONTAMINATE, failure.error_class, failure.message, *about))


class _Compare(beam.DoFn):
    """(Query, Embedding or None) -> Query, given all (TestQuery, Embedding), and the losses of those that wait."""

    def __init__(self, rules: Mapping[str, AlikeQueries], look_only: bool) -> None:
        self.rules, self.look_only = rules, look_only
        self.shared = Shared()  # packed once a process

    def process(
        self,
        element: tuple[Query, Embedding | None],
        tests: Sequence[tuple[TestQuery, Embedding]],
        waiting: Sequence[Loss],
    ) -> Iterator[Any]:
        query, embedding = element
        about = (query.video_id, query.query_id)
        if waiting and not self.look_only:
            reason = min(loss.reason for loss in waiting)
            yield lost(Loss("deferred", "synthesize", DECONTAMINATE, reason, "", *about))
            return
        found = None
        if embedding is not None and not waiting:
            found = alike(embedding, self.shared.acquire(lambda: Packs(tests)), self.rules)
        if found is None:
            yield query
        else:
            yield lost(Loss("rejected", "synthesize", DECONTAMINATE, IN_TEST_SET, found, *about))
