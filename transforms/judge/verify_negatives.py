"""Verifying negative queries: a teacher that sees all evidence of the video must say no to each, in every wording.

And yes to a true query in other words.

What it does not see it cannot deny: a query about a sign is no negative because a verifier of captions has not read it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

_REWORDED = ""  # stands for the id of the query itself


def denied(judgements: Sequence[Judgement]) -> Judgement | tuple[str, str]:
    """Of judgements of one pair the less sure no where all of them are, else why it is no negative: reason and detail.

    One without a margin is the least sure: nothing says how sure it is. A no whose margin says yes is in doubt: the
    word was drawn by chance, or a grammar forbade the likelier one.
    """
    said = [judgement.label for judgement in judgements]
    if "yes" in said:
        first = next(judgement for judgement in judgements if judgement.label == "yes")
        return "answerable" if said.count("yes") == len(said) else "in doubt", first.rationale
    for judgement in judgements:
        if judgement.margin and judgement.margin.delta > 0.0:
            return "in doubt", f"a no with a margin of {judgement.margin.delta:+.2f}"
    return max(judgements, key=lambda one: (one.margin is None, one.margin.delta if one.margin else 0.0))


def affirmed(judgements: Sequence[Judgement]) -> Judgement | tuple[str, str]:
    """Of judgements of one pair the less sure yes where all of them are, else why it is no positive.

    A yes whose margin says no is in doubt.
    """
    said = [judgement.label for judgement in judgements]
    if "no" in said:
        first = next(judgement for judgement in judgements if judgement.label == "no")
        return "not answered" if said.count("no") == len(said) else "in doubt", first.rationale
    for judgement in judgements:
        if judgement.margin and judgement.margin.delta < 0.0:
            return "in doubt", f"a yes with a margin of {judgement.margin.delta:+.2f}"
    return min(judgements, key=lambda one: (one.margin is not None, one.margin.delta if one.margin else 0.0))


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
    texts = {query.query_id: query.text for query in written.queries}
    if written.rewording is not None:
        texts[_REWORDED] = written.rewording.text
    said: dict[str, list[Judgement]] = {query_id: [] for query_id in texts}
    why: dict[str, Loss] = {}
    for name, options in wordings.items():  # all in one wording, and then all in the next: they share a prompt's start
        teacher = RecordedTeacher(engine, journal, "verify", name)
        for query_id, text in texts.items():
            pair = Pair(QueryText(query_id or written.query_id, text), video, None, False)
            answer = judgement_or_loss(teacher, pair, options, "verify")
            if isinstance(answer, Judgement):
                said[query_id].append(answer)
            else:
                why.setdefault(query_id, answer)
    waits = next((loss for loss in why.values() if loss.kind == "deferred"), None)

    def verified(query_id: str, rule: Callable[[Sequence[Judgement]], Judgement | tuple[str, str]]) -> Judgement | Loss:
        found = why.get(query_id) or rule(said[query_id])
        if isinstance(found, tuple):
            found = Loss("rejected", "judge", "verify", *found)
        return waits if waits is not None and not isinstance(found, Loss) else found

    def told(loss: Loss, step: str, what: str) -> beam.pvalue.TaggedOutput:
        advance("verify", loss.kind)
        detail, of_video, of_query = f"{what} ({loss.detail})", written.video_id, written.query_id
        return lost(replace(loss, step=step, detail=detail, video_id=of_video, query_id=of_query, uri=""))

    kept = []
    for query in written.queries:
        found = verified(query.query_id, denied)
        if isinstance(found, Loss):
            yield told(found, "verify", f"{query.edit}: {query.text}")
        else:
            kept.append(replace(query, judgement=found))
    rewording = written.rewording
    if rewording is not None:
        found = verified(_REWORDED, affirmed)
        if isinstance(found, Loss):
            yield told(found, "verify rewordings", rewording.text)
        rewording = None if isinstance(found, Loss) else replace(rewording, judgement=found)
    yield replace(written, queries=tuple(kept), verifier=engine.stamp(), rewording=rewording)
