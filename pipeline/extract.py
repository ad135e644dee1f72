"""Extract: files become videos with evidence - frames, speech, on-screen text, a caption."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import apache_beam as beam

from pipeline.config import ExtractConfig
from pipeline.engines import Engines
from pipeline.stage import LedgerBuilder
from schemas.losses import Loss
from schemas.video import Metadata, Video
from schemas.visible import one_line
from transforms.decontaminate.decontaminate import IN_TEST_SET, video_in
from transforms.decontaminate.test_sets import TestSet
from transforms.extract.caption import CaptionFrames
from transforms.extract.decode import DecodeVideos, Decoding
from transforms.extract.read_text import ReadText
from transforms.extract.transcribe import TranscribeSpeech
from transforms.journal.journal import Journal
from transforms.ledger import LOSSES, lost
from transforms.progress import Advance
from transforms.storage.cache import Cache
from transforms.workers.place import place
from transforms.workers.recorded import WORK


@dataclass
class Extract(beam.PTransform):
    """ManifestEntry -> {"decoded", "videos": Video, "kept", "deferred": Loss of a video lacking evidence yet}.

    "decoded" are all that could be, "videos" those with all their evidence that are of none of the ``test_sets``.
    "kept" are pairs of ids: of a dropped copy, and of the video kept in its place. Files whose hashes are
    ``elsewhere`` are copies of videos that are not among these.
    """

    config: ExtractConfig
    engines: Engines
    cache: Cache
    journal: Journal
    workers: int
    ledger: LedgerBuilder
    test_sets: tuple[TestSet, ...] = ()
    elsewhere: frozenset[str] = frozenset()

    def expand(self, entries: beam.PCollection) -> dict[str, beam.PCollection]:
        config, engines, cache, journal, workers = self.config, self.engines, self.cache, self.journal, self.workers
        decoding = Decoding(engines.decode, config.frames, config.limits, cache, journal, workers)
        due = entries | "Spread" >> beam.Reshuffle() | "Due" >> Advance("decode", "in")
        decoded = place(due, "Decode", DecodeVideos(decoding), engines.resources.get("decode"))
        self.ledger.step("extract", "decode", entries, decoded.videos, decoded.losses)
        self.ledger.works.append(decoded[WORK])

        distinct = (
            decoded.videos
            | "Decoded" >> Advance("decode", "done")
            | "By content" >> beam.Map(lambda video: (video.media.sha256, video))
            | "Same content" >> beam.GroupByKey()
            | "Keep one" >> beam.FlatMap(_keep_one, self.elsewhere).with_outputs(LOSSES, "kept", main="videos")
        )
        self.ledger.step("extract", "deduplicate", decoded.videos, distinct.videos, distinct.losses)

        steps: dict[str, Any] = {
            "asr": engines.asr and TranscribeSpeech(engines.asr, cache, journal, config.limits, workers, config.speech),
            "ocr": engines.ocr and ReadText(engines.ocr, cache, journal, config.limits, workers),
            "caption": engines.caption and CaptionFrames(engines.caption, cache, journal),
        }
        steps = {name: transform for name, transform in steps.items() if transform is not None}
        videos = distinct.videos
        for name in steps:
            videos = videos | f"{name} due" >> Advance(name, "in")  # before the shuffle: all are due at once
        videos = videos | "Spread again" >> beam.Reshuffle()
        for name, transform in steps.items():
            made = place(videos, name, transform, engines.resources.get(name))
            self.ledger.works.append(made[WORK])
            videos = made.videos | f"{name} done" >> Advance(name, "done")
        # Half the evidence would be asked half the questions: a video goes on when all of it is there.
        whole = videos | "Whole evidence" >> beam.FlatMap(_whole, self.test_sets).with_outputs(LOSSES, main="videos")
        self.ledger.step("extract", "evidence", distinct.videos, whole.videos, whole.losses)
        deferred = whole.losses | "Deferred" >> beam.Filter(lambda loss: loss.kind == "deferred")
        return {"decoded": decoded.videos, "videos": whole.videos, "kept": distinct.kept, "deferred": deferred}


def _whole(video: Video, test_sets: tuple[TestSet, ...]) -> Iterator[Any]:
    """A video with all of its evidence, unless it is of a test set: it is then in no part of the data."""
    if video.deferred:
        yield lost(Loss("deferred", "extract", "evidence", video.deferred, video_id=video.video_id))
    elif found := video_in(video, test_sets):
        yield lost(Loss("rejected", "extract", "evidence", IN_TEST_SET, found, video.video_id))
    else:
        yield video


def copies(videos: Iterable[Video]) -> list[Video]:
    """Files with the same bytes, by id and address; the first is to be kept, and knows what is said of any of them.

    What it does not say of itself (title, event …) is taken from the first copy that does; where copies disagree it
    keeps its own, with a warning.
    """
    kept, *others = sorted(videos, key=lambda video: (video.video_id, video.uri))
    metadata = kept.evidence.metadata
    disagreeing = []
    for field in fields(Metadata):
        said = [text for text in (getattr(video.evidence.metadata, field.name) for video in (kept, *others)) if text]
        if said:
            metadata = replace(metadata, **{field.name: said[0]})
            others_say = sorted(set(said) - {said[0]})
            disagreeing += [f"{field.name} {text!r} is not {said[0]!r}" for text in others_say]
    kept = replace(kept, evidence=replace(kept.evidence, metadata=metadata))
    if disagreeing:
        kept = kept.warned("metadata", "copies disagree", one_line("; ".join(disagreeing))[:500])
    return [kept, *others]


def _keep_one(same: tuple[str, Iterable[Video]], elsewhere: frozenset[str]) -> Iterator[Any]:
    sha256, videos = same
    kept, *others = copies(videos)
    if sha256 in elsewhere:
        for video in (kept, *others):
            detail = f"{video.uri} has the same bytes as another"
            yield lost(Loss("rejected", "extract", "deduplicate", "duplicate file", detail, video.video_id))
        return
    yield kept
    for video in others:
        detail = f"{video.uri} has the same bytes as {kept.uri}"
        yield lost(Loss("rejected", "extract", "deduplicate", "duplicate file", detail, video.video_id))
        yield beam.pvalue.TaggedOutput("kept", (video.video_id, kept.video_id))
