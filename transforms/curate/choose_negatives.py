"""From verified negative queries to examples of one video: a few of each query, of as many kinds as there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import apache_beam as beam

from schemas.example import Edit, ExampleCandidate, NegativeQueries, NegativeQuery, QueryCandidate, VideoExample
from schemas.people.mark import Mark
from transforms.curate.concept_balance import rejected
from transforms.ledger import LOSSES
from transforms.teacher.verdict import verdict_of


def choose(queries: Sequence[NegativeQuery], most: int) -> list[NegativeQuery]:
    """At most ``most`` of the queries, in their order: the first of every kind of edit before the second of any."""
    turns: defaultdict[Edit, int] = defaultdict(int)
    ranked: list[tuple[int, int]] = []
    for place, query in enumerate(queries):
        ranked.append((turns[query.edit], place))
        turns[query.edit] += 1
    return [queries[place] for place in sorted(place for _, place in sorted(ranked)[:most])]


@dataclass
class ChooseNegatives(beam.PTransform):
    """NegativeQueries -> at most ``most`` of each; those that are left over go to the tag "losses".

    ``marks`` are what people say is wrong, by query id and by video id. A negative that they mark is not among them.
    """

    most: int = 3
    marks: Mapping[str, Mapping[str, Mark]] = field(default_factory=dict)

    def expand(self, verified: beam.PCollection[NegativeQueries]) -> beam.pvalue.DoOutputsTuple:
        choose = beam.FlatMap(_choose, most=self.most, marks=self.marks)
        return verified | "Choose" >> choose.with_outputs(LOSSES, main="chosen")


def _choose(
    group: NegativeQueries, most: int, marks: Mapping[str, Mapping[str, Mark]]
) -> Iterator[NegativeQueries | beam.pvalue.TaggedOutput]:
    fit = []
    for query in group.queries:
        mark = _mark_of(marks.get(query.query_id, {}), group.video_id)
        if mark is None:
            fit.append(query)
        else:
            yield rejected(group, query, f"marked {mark.verdict}", mark.note or "by a person")
    chosen = choose(fit, most)
    for query in fit:
        if query not in chosen:
            yield rejected(group, query, "surplus negative", f"at most {most}")
    yield replace(group, queries=tuple(chosen))


def _mark_of(marks: Mapping[str, Mark], video_id: str) -> Mark | None:
    """What people say against a negative query: that it is none to search with, or that the video answers it."""
    said = (marks.get(""), marks.get(video_id))
    return next((mark for mark in said if mark and mark.verdict in ("bad query", "false negative")), None)


def video_examples(group: NegativeQueries) -> Iterator[VideoExample]:
    """The example of the video, where any negative is left; the true query comes first."""
    example = group.example
    if group.queries and group.verifier is not None:
        true = _true(example.query_id, group, example.candidates[0])
        negatives = (
            QueryCandidate(one.query_id, one.text, 0, one.edit, **verdict_of(one.judgement))
            for one in group.queries
            if one.judgement is not None
        )
        yield VideoExample(
            example.query_id,
            group.video_id,
            example.split,
            group.writer,
            group.verifier,
            (true, *negatives),
            example.query if group.rewording is not None else None,
        )


def _true(query_id: str, group: NegativeQueries, positive: ExampleCandidate) -> QueryCandidate:
    """The pair that the example of the query has of its own video, seen from the video, or that of it reworded."""
    if group.rewording is not None and group.rewording.judgement is not None:
        verdict = verdict_of(group.rewording.judgement)
        return QueryCandidate(query_id, group.rewording.text, 1, None, **verdict)
    query = group.example.query
    return QueryCandidate(
        query_id=query_id,
        query=query,
        label=1,
        edit=None,
        teacher_label=positive.teacher_label,
        delta=positive.delta,
        delta_lo=positive.delta_lo,
        delta_hi=positive.delta_hi,
        p_yes=positive.p_yes,
        confidence_source=positive.confidence_source,
        rationale=positive.rationale,
        censored=positive.censored,
        label_mass=positive.label_mass,
        delta_prior=positive.delta_prior,
    )
