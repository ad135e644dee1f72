"""Embedding: the vectors of each query and of each video, journaled; a video's lie in files of the cache."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import apache_beam as beam
import numpy as np

from schemas.fingerprint import fingerprint
from schemas.losses import Loss
from schemas.query import Query, QueryText
from schemas.usage import Usage
from schemas.video import Modality, Video
from transforms.journal.budget import Deferred
from transforms.journal.deciding import step_key
from transforms.journal.journal import Journal
from transforms.journal.record import Key, RecordedFailure
from transforms.ledger import LOSSES, lost
from transforms.media.audio import read_windows
from transforms.media.frame_pack import read_frame_pack
from transforms.mine.documents import EVEN
from transforms.progress import Advance, advance
from transforms.protocols.embed import Embedder, Embedding, EmbedEngine, HearingEmbedder, Hears
from transforms.protocols.engine import Waits, loaded
from transforms.protocols.frames import Frame
from transforms.protocols.speech import Samples
from transforms.search.vector_file import read_vectors, write_vectors
from transforms.storage.cache import Cache, CachedFile
from transforms.workers.engine_at_work import EngineFailed, engine_at_work
from transforms.workers.recorded import WORK, recorded_map

# Raise it when an embedder is given other than the same text or the same frames of a pack, or its vectors are kept
# otherwise.
FORMAT = 1

_FAILURES = (EngineFailed, MemoryError)
_NOTHING = 1e-6  # of the sum of the weights: coordinates of unit vectors in fp32 are off by 1e-7

T = TypeVar("T")


class CancelOut(ValueError):
    """The vectors of a text's fields, each times its weight, add up to nothing."""


Weights = Mapping[Modality, int]
EQUAL: Weights = EVEN.by_field()


@dataclass(frozen=True, slots=True)
class QueryVectors:
    """What the journal holds of a query: float32 [n, dims] in little-endian order, and what a server used for it."""

    vectors: bytes
    dims: int
    usage: Usage | None = None

    @classmethod
    def of(cls, embedding: Embedding) -> QueryVectors:
        """As it is recorded."""
        return cls(embedding.vectors.astype("<f4").tobytes(), embedding.dims, embedding.usage)

    def embedding(self) -> Embedding:
        """As it was."""
        vectors = np.frombuffer(self.vectors, "<f4").astype(np.float32).reshape(-1, self.dims)
        return Embedding(vectors, (len(vectors),), self.usage)


@dataclass(frozen=True, slots=True)
class StoredVectors:
    """What the journal holds of a video's frames or of one field of its text: the file that its vectors lie in."""

    file: CachedFile
    levels: tuple[int, ...]
    dims: int
    usage: Usage | None = None

    @property
    def cached_files(self) -> tuple[CachedFile, ...]:
        """The one."""
        return (self.file,)


@dataclass(frozen=True, slots=True)
class EmbeddedVideo:
    """Where a video's vectors lie: one file for its frames, or one for each field of its text, each with its weight."""

    video_id: str
    files: tuple[tuple[CachedFile, int], ...]

    def embedding(self, cache: Cache) -> Embedding:
        """The vectors, read from the cache and joined; raises as ``join_fields`` does."""
        return join_fields([(_read(file, cache), weight) for file, weight in self.files])


def join_fields(fields: list[tuple[Embedding, int]]) -> Embedding:
    """The vectors of a text from those of its fields, each with a weight above 0.

    Single vectors are added up by their weights, in order, and the sum brought to length 1; of several, all are kept.

    Raises:
        CancelOut: what is left of the sum is rounding, which has no direction.
    """
    if len(fields) == 1:
        return fields[0][0]
    if all(embedding.levels == (1,) for embedding, _ in fields):
        total = np.zeros(fields[0][0].dims)
        for embedding, weight in fields:  # one by one: a product of matrices adds up in an order of its own
            total += weight * embedding.vectors[0].astype(np.float64)
        if np.abs(total).max() <= _NOTHING * sum(weight for _, weight in fields):
            raise CancelOut("the vectors of its fields, each times its weight, add up to nothing")
        return Embedding.of(total)
    rows = np.concatenate([embedding.vectors for embedding, _ in fields])
    return Embedding(rows, (len(rows),))


def embed_query(query: Query | QueryText, engine: EmbedEngine, journal: Journal) -> Embedding:
    """The vectors of a query's text.

    Raises:
        RecordedFailure: the engine failed on it, now or in an earlier run whose failure stands.
        Deferred: it is left for a later run.
        EngineError: no query can be embedded.
    """

    def work() -> QueryVectors:
        embedder: Embedder = loaded(engine)
        with engine_at_work():
            return QueryVectors.of(embedder.embed_query(query.text))

    inputs = {"query": fingerprint(query.text)}
    key = step_key("embed_query", query.query_id, engine.query_stamp(), {"format": str(FORMAT)}, inputs)
    return journal.once(key, work, QueryVectors, _FAILURES, paid=isinstance(engine, Waits)).embedding()


def embed_video(
    video: Video, engine: EmbedEngine, cache: Cache, journal: Journal, fields: Weights = EQUAL
) -> EmbeddedVideo | None:
    """Where the vectors of a video are, which are made unless they are there; None where it has nothing to embed.

    An engine that reads frames is given all of its frame pack, and the beginning of its sound where it hears; one that
    reads text each field by itself that has words
    and a weight above 0, so that another weight makes no vector anew. The errors are those of ``embed_query``; a video
    of which one field fails has no vectors, for half of its words would rank it elsewhere.
    """
    if engine.reads == "frames":
        if video.frame_pack is None:
            return None
        return EmbeddedVideo(video.video_id, ((_embed_frames(video, video.frame_pack, engine, cache, journal), 1),))
    texts = {name: video.evidence.text(name) for name, weight in fields.items() if weight}
    files: list[tuple[CachedFile, int]] = []
    wrong: list[RecordedFailure | Deferred] = []
    for name, text in texts.items():
        if text.strip():
            try:  # all of them: a plan is to see each
                files.append((_embed_text(video, name, text, engine, cache, journal), fields[name]))
            except (RecordedFailure, Deferred) as error:
                wrong.append(error)
    if wrong:
        raise next((error for error in wrong if isinstance(error, RecordedFailure)), wrong[0])
    return EmbeddedVideo(video.video_id, tuple(files)) if files else None


def _embed_text(
    video: Video, name: Modality, text: str, engine: EmbedEngine, cache: Cache, journal: Journal
) -> CachedFile:
    key = _document_key(f"{video.uri} {name}", engine, {"text": fingerprint(text)})
    return _stored(key, lambda: text, lambda embedder, text: embedder.embed_text(text), engine, cache, journal)


def _embed_frames(video: Video, pack: str, engine: EmbedEngine, cache: Cache, journal: Journal) -> CachedFile:
    sound_s = engine.sound_s if isinstance(engine, Hears) else 0.0
    audio = video.audio if sound_s else None

    def shown() -> tuple[list[Frame], Samples | None]:
        with cache.reading(pack) as path:
            frames = read_frame_pack(path)
        if audio is None:
            return frames, None
        with cache.reading(audio) as path:
            return frames, next(read_windows(path, sound_s), None)

    key = _document_key(f"{video.uri} frames", engine, {"frames": pack, **({"sound": audio} if audio else {})})
    return _stored(key, shown, _embed_shown, engine, cache, journal)


def _embed_shown(embedder: Embedder, shown: tuple[list[Frame], Samples | None]) -> Embedding:
    frames, sound = shown
    if sound is None:
        return embedder.embed_frames(frames)
    return cast(HearingEmbedder, embedder).embed_frames_and_sound(frames, sound)


def _document_key(subject: str, engine: EmbedEngine, inputs: Mapping[str, str]) -> Key:
    return step_key("embed_video", subject, engine.document_stamp(), {"format": str(FORMAT)}, inputs)


def _stored(
    key: Key,
    read: Callable[[], T],
    embed: Callable[[Embedder, T], Embedding],
    engine: EmbedEngine,
    cache: Cache,
    journal: Journal,
) -> CachedFile:
    """The file of the vectors that ``embed`` makes of what is ``read``, under a key; made anew where it is gone."""

    def work() -> StoredVectors:
        embedder: Embedder = loaded(engine)
        item = read()  # a file of the cache that cannot be read is no failure of the engine on this video
        with engine_at_work():
            embedding = embed(embedder, item)
        file = _publish(embedding, key.digest, cache)
        return StoredVectors(file, embedding.levels, embedding.dims, embedding.usage)

    stored = journal.once(
        key, work, StoredVectors, _FAILURES, lambda stored: cache.holds(stored.file), paid=isinstance(engine, Waits)
    )
    return stored.file


def _publish(embedding: Embedding, digest: str, cache: Cache) -> CachedFile:
    with tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        path = os.path.join(folder, "vectors.npz")
        write_vectors(path, embedding)
        return cache.publish(path, f"vectors/{digest[:2]}/{digest}.npz")


def _read(file: CachedFile, cache: Cache) -> Embedding:
    with cache.reading(file.key) as path:
        return read_vectors(path)


@dataclass
class EmbedVideos(beam.PTransform):
    """Video -> EmbeddedVideo ("embedded") and WORK; what failed or waits, or has nothing to embed, are "losses".

    ``name`` is that of the run which the vectors are for.
    """

    name: str
    engine: EmbedEngine
    cache: Cache
    journal: Journal
    fields: Weights = field(default_factory=lambda: dict(EQUAL))

    def expand(self, videos: beam.PCollection[Video]) -> Any:
        options = (self.name, self.engine, self.cache, self.journal, self.fields)
        due = videos | "Due" >> Advance("embed_video", "in")
        step = recorded_map(self.journal, self.engine, _embedded, *options)
        return due | "Embed videos" >> step.with_outputs(LOSSES, WORK, main="embedded")


def _embedded(
    video: Video, name: str, engine: EmbedEngine, cache: Cache, journal: Journal, fields: Weights
) -> Iterator[Any]:
    step = f"embed {name}"
    try:
        embedded = embed_video(video, engine, cache, journal, fields)
        advance("embed_video", "done")
        lacks = "no frames" if engine.reads == "frames" else "no words"
        yield embedded or lost(Loss("rejected", "mine", step, lacks, "", video.video_id))
    except Deferred as deferred:
        advance("embed_video", "deferred")
        yield lost(Loss("deferred", "mine", step, deferred.reason, "", video.video_id))
    except RecordedFailure as failure:
        advance("embed_video", "failed")
        about = (video.video_id, "", video.uri)
        yield lost(Loss("failed", "mine", step, failure.error_class, failure.message, *about))


def the_query(query: Query) -> Query:
    """The query of an element that is one."""
    return query


@dataclass
class EmbedQueries(beam.PTransform):
    """Any element with a query -> (element, Embedding) ("embedded"), WORK; queries that failed or wait are "losses"."""

    engine: EmbedEngine
    journal: Journal
    query_of: Callable[[Any], Query] = the_query

    def expand(self, elements: beam.PCollection) -> Any:
        options = (self.engine, self.journal, self.query_of)
        due = elements | "Due" >> Advance("embed_query", "in")
        step = recorded_map(self.journal, self.engine, _with_embedding, *options)
        return due | "Embed queries" >> step.with_outputs(LOSSES, WORK, main="embedded")


def _with_embedding(
    element: Any, engine: EmbedEngine, journal: Journal, query_of: Callable[[Any], Query]
) -> Iterator[Any]:
    query = query_of(element)
    try:
        embedding = embed_query(query, engine, journal)
        advance("embed_query", "done")
        yield element, embedding
    except Deferred as deferred:
        for step in ("embed_query", "retrieve"):
            advance(step, "deferred")
        yield lost(Loss("deferred", "mine", "retrieve", deferred.reason, "", query.video_id, query.query_id))
    except RecordedFailure as failure:
        for step in ("embed_query", "retrieve"):
            advance(step, "failed")
        about = (query.video_id, query.query_id)
        yield lost(Loss("failed", "mine", "retrieve", failure.error_class, failure.message, *about))
