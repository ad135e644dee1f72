"""Transcribing: from a video's sound track to speech segments on the video's clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import apache_beam as beam

from schemas.video import Evidence, EvidenceWarning, Video
from transforms.extract.attempt import attempt
from transforms.extract.decode import Limits
from transforms.extract.recognize import Segments, transcribe
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.protocols.engine import Engine
from transforms.speech.plausible import DEFAULT_RULES, SpeechRules, parted, warnings_of
from transforms.storage.cache import Cache
from transforms.workers.child_model import run_with_model
from transforms.workers.recorded import WORK, recorded_map

# Raise it when the same sound, engine and voice activity detector give other segments than before.
FORMAT = 1


@dataclass
class TranscribeSpeech(beam.PTransform):
    """Videos -> the same ("videos") with speech segments, or a warning that says why there are none; and WORK."""

    engine: Engine
    cache: Cache
    journal: Journal
    limits: Limits
    workers: int = 1
    rules: SpeechRules | None = DEFAULT_RULES

    def expand(self, videos: beam.PCollection[Video]) -> Any:
        options = (self.engine, self.cache, self.journal, self.limits, self.workers, self.rules)
        step = recorded_map(self.journal, None, _transcribed, *options)
        return videos | "Transcribe" >> step.with_outputs(WORK, main="videos")


def _transcribed(video: Video, *options: Any) -> Iterator[Video]:
    yield transcribe_video(video, *options)


def transcribe_video(
    video: Video,
    engine: Engine,
    cache: Cache,
    journal: Journal,
    limits: Limits,
    workers: int = 1,
    rules: SpeechRules | None = DEFAULT_RULES,
) -> Video:
    """The video with its ASR evidence, or a warning in its place; one without sound is returned as it is.

    Recognition runs in a child process. A model that cannot be loaded is an error, since it would fail on every video.
    What breaks the ``rules`` is left out, with a warning a reason; the journal holds all that was recognised, so that
    other rules need no other transcript.
    """
    if video.audio is None:
        return video
    audio, limit = video.audio, limits.for_media(video.media.audio_s or 0.0)

    def extract() -> Segments:
        with cache.reading(audio) as path:
            return run_with_model(transcribe, engine, path, limit=limit, workers=workers)

    dropped: list[EvidenceWarning] = []

    def put(segments: Segments) -> Evidence:
        if rules is None:
            return replace(video.evidence, asr=segments)
        plausible, invented = parted(segments, rules)
        dropped.extend(warnings_of(invented, len(segments)))
        return replace(video.evidence, asr=plausible)

    key = step_key("asr", video.uri, engine.stamp(), {"format": str(FORMAT)}, {"sound": audio})
    done = attempt(video, key, journal, extract, Segments, put)
    return replace(done, warnings=(*done.warnings, *dropped))
