"""Transcribing: from a video's sound track to speech segments on the video's clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import apache_beam as beam

from schemas.video import AsrSegment, Evidence, Video
from schemas.visible import one_line
from transforms.extract.attempt import attempt
from transforms.extract.decode import Limits
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.media.audio import read_windows
from transforms.media.container import MediaError
from transforms.media.vad import Speech, speech_spans
from transforms.protocols.engine import Engine, loaded
from transforms.protocols.speech import Samples, SpeechRecognizer
from transforms.storage.cache import Cache, CacheFailed
from transforms.workers.child_model import run_with_model
from transforms.workers.engine_at_work import engine_at_work
from transforms.workers.recorded import WORK, recorded_map

Segments = tuple[AsrSegment, ...]

# Raise it when the same sound, engine and voice activity detector give other segments than before.
FORMAT = 1
_GROUP = 32  # spans handed to the recogniser at once, 30 MB at most; it makes its own batches of them


@dataclass
class TranscribeSpeech(beam.PTransform):
    """Videos -> the same ("videos") with speech segments, or a warning that says why there are none; and WORK."""

    engine: Engine
    cache: Cache
    journal: Journal
    limits: Limits
    workers: int = 1

    def expand(self, videos: beam.PCollection[Video]) -> Any:
        options = (self.engine, self.cache, self.journal, self.limits, self.workers)
        step = recorded_map(self.journal, None, _transcribed, *options)
        return videos | "Transcribe" >> step.with_outputs(WORK, main="videos")


def _transcribed(video: Video, *options: Any) -> Iterator[Video]:
    yield transcribe_video(video, *options)


def transcribe_video(
    video: Video, engine: Engine, cache: Cache, journal: Journal, limits: Limits, workers: int = 1
) -> Video:
    """The video with its ASR evidence, or a warning in its place; one without sound is returned as it is.

    Recognition runs in a child process. A model that cannot be loaded is an error, since it would fail on every video.
    """
    if video.audio is None:
        return video
    audio, limit = video.audio, limits.for_media(video.media.audio_s or 0.0)

    def extract() -> Segments:
        with cache.reading(audio) as path:
            return run_with_model(transcribe, engine, path, limit=limit, workers=workers)

    def put(segments: Segments) -> Evidence:
        return replace(video.evidence, asr=segments)

    key = step_key("asr", video.uri, engine.stamp(), {"format": str(FORMAT)}, {"sound": audio})
    return attempt(video, key, journal, extract, Segments, put)


def transcribe(engine: Engine, audio_path: str) -> Segments:
    """The speech in a FLAC file, in time order; seconds from the start of the file, which is the first video frame.

    Raises:
        EngineFailed: the engine raised an error on this sound track.
        CacheFailed: the file cannot be read.
    """
    recognizer: SpeechRecognizer = loaded(engine)
    with engine_at_work():
        segments = list(_segments(recognizer, speech_spans(_sound(audio_path))))
    return tuple(sorted(segments, key=lambda segment: (segment.start_s, segment.end_s, segment.text)))


def _sound(path: str) -> Iterator[Samples]:
    """The windows of a cached file, which was whole when it was written: that it is not now is no engine's doing."""
    from av.error import FFmpegError

    try:
        yield from read_windows(path)
    except (OSError, MediaError, FFmpegError) as error:
        raise CacheFailed(f"cannot read {path} in the cache: {type(error).__name__}: {error}") from error


def _segments(recognizer: SpeechRecognizer, spans: Iterator[Speech]) -> Iterator[AsrSegment]:
    while group := tuple(islice(spans, _GROUP)):
        found = recognizer.recognize([span.samples for span in group])
        for span, segments in zip(group, found, strict=True):
            for segment in segments:
                if text := one_line(segment.text):
                    start_s, end_s = span.start_s + segment.start_s, span.start_s + segment.end_s
                    yield AsrSegment(round(start_s, 3), round(end_s, 3), text, segment.confidence)
