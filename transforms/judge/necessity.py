"""Necessity: the judge of a positive is asked again without one modality of the evidence, for each of them in turn.

What turns its yes into a no is what the label rests on. Leaving one out tells what is needed, not what is enough: where
speech and caption say the same, neither is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import apache_beam as beam
import msgspec

from schemas.configuration.section import Section
from schemas.example import Example, ExampleCandidate, Necessity, Without, rests_on
from schemas.fingerprint import unit_interval
from schemas.losses import Loss
from schemas.query import Judgement, QueryText
from schemas.video import Modality, Video
from transforms.journal.journal import Journal
from transforms.judge.judge_pairs import JudgeOptions, Pair, judgement_or_loss
from transforms.ledger import LOSSES, lost
from transforms.progress import advance
from transforms.protocols.teacher import TeacherEngine
from transforms.teacher.recorded_teacher import RecordedTeacher
from transforms.teacher.verdict import verdict_of
from transforms.workers.recorded import WORK, recorded_map

STEP = "necessity"


class NecessityConfig(Section, frozen=True):
    """Which positives the judge is asked about again: those of a ``share`` of the groups, chosen by their queries' ids.

    Of each it is asked once without each modality that it was shown, but where it was shown only one.
    """

    share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0


@dataclass(frozen=True, slots=True)
class Positive:
    """A video that is labelled as an answer to a query, and what its judge said of it."""

    query: QueryText
    labelled: ExampleCandidate

    @property
    def video_id(self) -> str:
        """The video."""
        return self.labelled.video_id


def positives_of(example: Example, share: float, seed: int) -> Iterator[Positive]:
    """The positives of an example, if it is one of the ``share``: by its id, whatever else there is."""
    if unit_interval(f"{seed}:necessity:{example.query_id}") < share:
        query = QueryText(example.query_id, example.query)
        yield from (Positive(query, one) for one in example.candidates if one.label)


def shown_of(video: Video, options: JudgeOptions) -> tuple[Modality, ...]:
    """The modalities of a video that its judge is shown, in their order."""
    return tuple(name for name in video.evidence.present if name in options.modalities)


def left_out(video: Video, options: JudgeOptions) -> tuple[Modality, ...]:
    """The modalities that are left out in turn: a call of the judge each. None where it was shown only one."""
    shown = shown_of(video, options)
    return shown if len(shown) > 1 else ()


def necessity_of(
    positive: Positive, video: Video, said: Mapping[Modality, Judgement], options: JudgeOptions
) -> Necessity:
    """What the positive rests on, from what its judge ``said`` without each modality."""
    shown, delta = shown_of(video, options), positive.labelled.delta
    without = []
    for modality, judgement in said.items():
        drop = None if delta is None or judgement.margin is None else delta - judgement.margin.delta
        without.append(Without(modality=modality, drop=drop, **verdict_of(judgement)))
    return Necessity(
        query_id=positive.query.query_id,
        video_id=video.video_id,
        delta=delta,
        shown=shown,
        unseen=tuple(name for name in video.evidence.present if name not in shown),
        without=tuple(without),
        rests_on=rests_on(shown, without),
    )


@dataclass
class FindNecessity(beam.PTransform):
    """(Positive, Video) -> Necessity; each question that got no verdict goes to "losses".

    Where one is left for a later run all of its positive are, and where none got a verdict there is no Necessity. The
    ``options`` are those that the label was found with. The main output is "found"; and WORK.
    """

    teacher: TeacherEngine
    journal: Journal
    options: JudgeOptions

    def expand(self, pairs: beam.PCollection[tuple[Positive, Video]]) -> beam.pvalue.DoOutputsTuple:
        find = recorded_map(self.journal, self.teacher, _find, self.teacher, self.journal, self.options)
        return pairs | "Find" >> find.with_outputs(LOSSES, WORK, main="found")


def _find(
    asked: tuple[Positive, Video], engine: TeacherEngine, journal: Journal, options: JudgeOptions
) -> Iterator[Necessity | beam.pvalue.TaggedOutput]:
    positive, video = asked
    said: dict[Modality, Judgement] = {}
    losses: dict[Modality, Loss] = {}
    questions = left_out(video, options)
    for modality in questions:
        others = tuple(name for name in options.modalities if name != modality)
        teacher = RecordedTeacher(engine, journal, STEP, f"without {modality}")
        pair = Pair(positive.query, video, None, True)
        found = judgement_or_loss(teacher, pair, replace(options, modalities=others), STEP)
        if isinstance(found, Loss):
            losses[modality] = found
        else:
            said[modality] = found
    if waits := next((loss for loss in losses.values() if loss.kind == "deferred"), None):
        losses |= dict.fromkeys(said, waits)
        said = {}
    for modality, loss in losses.items():
        advance(STEP, loss.kind)
        yield lost(replace(loss, detail=f"without {modality}: {loss.detail}".removesuffix(": ")))
    if said or not questions:
        yield necessity_of(positive, video, said, options)
