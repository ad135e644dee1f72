"""Verifying negative queries: a teacher that sees all evidence of the video must say no to each, in every wording.

What it does not see it cannot deny: a query about a sign is no negative because a verifier of captions has not read it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import apache_beam as beam

from schemas.example import NegativeQueries
from schemas.losses import Loss
from schemas.query import Judgement, QueryText
from schemas.video import Video
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judgement_or_loss
from transforms.ledger import LOSSES, lost
from transforms.progress import advance
from transforms.protocols.teacher import TeacherEngine
from transforms.teacher.recorded_teacher import RecordedTeacher
from transforms.workers.recorded import WORK, recorded_map

Wordings = Mapping[str, JudgeOptions]
"""How the question is put, by the name of each wording."""


def denied(judgements: Sequence[Judgement]) -> Judgement | tuple[str, str]:
    """Of judgements of one pair the less sure no where all of them are, else why it is no negative: reason and detail.

    One without a margin is the least sure: nothing says how sure it is.
    """
    said = [judgement.label for judgement in judgements]
    if "yes" in said:
        first = next(judgement for judgement in judgements if judgement.label == "yes")
        return "answerable" if said.count("yes") == len(said) else "in doubt", first.rationale
    return max(judgements, key=lambda one: (one.margin is None, one.margin.delta if one.margin else 0.0))


@dataclass
class VerifyNegatives(beam.PTransform):
    """(NegativeQueries, Video) -> NegativeQueries that the video does not answer; the others go to "losses".

    Where one is left for a later run all of its example are, which might get others then. The main output is
    "verified"; and WORK.
    """

    teacher: TeacherEngine
    journal: Journal
    wordings: Wordings

    def expand(self, pairs: beam.PCollection[tuple[NegativeQueries, Video]]) -> beam.pvalue.DoOutputsTuple:
        verify = recorded_map(self.journal, self.teacher, _verify, self.teacher, self.journal, self.wordings)
        return pairs | "Verify" >> verify.with_outputs(LOSSES, WORK, main="verified")


def _verify(
    asked: tuple[NegativeQueries, Video], engine: TeacherEngine, journal: Journal, wordings: Wordings
) -> Iterator[NegativeQueries | beam.pvalue.TaggedOutput]:
    written, video = asked
    said: dict[str, list[Judgement]] = {query.query_id: [] for query in written.queries}
    why: dict[str, Loss] = {}
    for name, options in wordings.items():  # all in one wording, and then all in the next: they share a prompt's start
        teacher = RecordedTeacher(engine, journal, "verify", name)
        for query in written.queries:
            pair = Pair(QueryText(query.query_id, query.text), video, None, False)
            answer = judgement_or_loss(engine, teacher, pair, options, "verify")
            if isinstance(answer, Judgement):
                said[query.query_id].append(answer)
            else:
                why.setdefault(query.query_id, answer)
    waits = next((loss for loss in why.values() if loss.kind == "deferred"), None)
    kept = []
    for query in written.queries:
        found = why.get(query.query_id) or denied(said[query.query_id])
        if isinstance(found, tuple):
            found = Loss("rejected", "judge", "verify", *found)
        if waits is not None and not isinstance(found, Loss):
            found = waits
        if isinstance(found, Loss):
            advance("verify", found.kind)
            detail = f"{query.edit}: {query.text} ({found.detail})"
            yield lost(replace(found, detail=detail, video_id=written.video_id, query_id=written.query_id, uri=""))
        else:
            kept.append(replace(query, judgement=found))
    yield replace(written, queries=tuple(kept), verifier=engine.stamp())
