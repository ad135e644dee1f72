"""Retrieval by vectors: a corpus packed once by one worker, and searched where its queries are embedded."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.shared import Shared

from schemas.fingerprint import fingerprint
from schemas.losses import Loss
from schemas.query import Candidates, Query
from schemas.video import Video
from transforms.journal.journal import Journal
from transforms.ledger import LOSSES, lost
from transforms.mine.documents import FieldWeights
from transforms.mine.embed import CancelOut, EmbeddedVideo, EmbedQueries, EmbedVideos
from transforms.mine.retrieve import Retrieved
from transforms.progress import advance
from transforms.protocols.embed import Embedding, EmbedEngine
from transforms.search.pack import FORMAT, NotAPack, Pack, check_pack, open_pack, write_pack
from transforms.search.search import SearchOptions, search_many
from transforms.search.vector_file import NotVectors
from transforms.storage.address import is_remote
from transforms.storage.cache import Cache
from transforms.storage.cache_failed import CacheFailed
from transforms.workers.recorded import WORK

NOT_PACKED = "not packed"  # why queries wait in a look at what a run would do: it brings no corpus here to pack it
CANCELLED = "fields cancel out"
PACKED = "packed"
SEARCH = SearchOptions()
_AT_ONCE = 256  # queries, whose scores of 110,000 videos take 225 MB; and videos, whose vectors are read ahead
_READERS = 16  # a video's vectors are a small file or some: what they cost on a network is the wait


@dataclass(frozen=True, slots=True)
class Corpus:
    """The key of a corpus's pack in the cache, None where no video has a vector; ``waits`` is why it is not whole.

    ``unpacked`` are its videos where a look found no pack, and writes none.
    """

    pack: str | None = None
    waits: str = ""
    unpacked: tuple[EmbeddedVideo, ...] = ()


@dataclass
class PackVideos(beam.PTransform):
    """(EmbeddedVideo, Loss of a video) -> one Corpus ("corpus"), the EmbeddedVideo of each in it ("packed"), "losses".

    Its file is named by what is in it, and written only once. ``name`` is that of the run which it is for.
    """

    name: str
    space: str
    cache: Cache
    journal: Journal

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> Any:
        embedded, losses = inputs
        waiting = losses | "Waiting" >> beam.Filter(lambda loss: loss.kind == "deferred")
        none = embedded.pipeline | "Always" >> beam.Create([None], reshuffle=False)
        return (
            (embedded, waiting, none)
            | "All" >> beam.Flatten()
            | "One key" >> beam.Map(lambda item: ("", item))
            | "Together" >> beam.GroupByKey()
            | "Pack" >> beam.FlatMapTuple(self._pack).with_outputs(LOSSES, PACKED, main="corpus")
        )

    def _pack(self, _: str, items: Iterable[EmbeddedVideo | Loss | None]) -> Iterator[Any]:
        found = list(items)
        waits = min((item.reason for item in found if isinstance(item, Loss)), default="")
        videos = sorted((item for item in found if isinstance(item, EmbeddedVideo)), key=lambda video: video.video_id)
        corpus, held = (Corpus(waits=waits), None) if waits or not videos else self._corpus(videos)
        yield corpus
        for video in videos:
            if held is None or held.row_of(video.video_id) is not None:
                yield beam.pvalue.TaggedOutput(PACKED, video)
            else:
                detail = f"mine.first_stages.{self.name}.fields: their vectors, by their weights, add up to nothing"
                yield lost(Loss("rejected", "mine", f"embed {self.name}", CANCELLED, detail, video.video_id))

    def _corpus(self, videos: list[EmbeddedVideo]) -> tuple[Corpus, Pack | None]:
        """The corpus of these, in the order of their ids, and its pack; None where a look does without."""
        content = [(video.video_id, [(file.sha256, weight) for file, weight in video.files]) for video in videos]
        name = fingerprint([FORMAT, self.space, content])
        key = f"packs/{name[:2]}/{name}.pack"
        if (held := self._held(key)) is not None:
            return Corpus(key), held
        if self.journal.look_only:
            far = is_remote(self.cache.root)
            return (Corpus(waits=NOT_PACKED) if far else Corpus(key, unpacked=tuple(videos))), None
        with _packed(videos, self.cache, self.space) as path:
            self.cache.publish(path, key)
            return Corpus(key), open_pack(path)

    def _held(self, key: str) -> Pack | None:
        """The pack, where the cache has it, and whole: it is read once a run, to its last byte."""
        if not self.cache.size(key):
            return None
        try:
            with self.cache.reading(key) as path:
                with open(path, "rb") as stream:
                    check_pack(stream, path)
                return open_pack(path)
        except NotAPack:
            return None


@contextmanager
def _packed(videos: Sequence[EmbeddedVideo], cache: Cache, space: str) -> Iterator[str]:
    """The path of a pack of videos in the order of their ids, which is removed afterwards.

    Raises:
        CacheFailed: a file of vectors is damaged, or they do not go together; with the fix.
    """
    with tempfile.TemporaryDirectory(prefix="hardquery-") as folder:
        path = os.path.join(folder, "pack")
        try:
            write_pack(path, _read(videos, cache), space)
        except NotVectors as error:
            raise CacheFailed(f"{error}; delete it, and its video is embedded again at the next run") from error
        except ValueError as error:
            fix = "hardquery cache prune --step embed_video --older-than 0d"
            raise CacheFailed(f"{error}: another model of the same name made some of them; run: {fix}") from error
        yield path


def _read(videos: Sequence[EmbeddedVideo], cache: Cache) -> Iterator[tuple[str, Embedding]]:
    """The vectors of each video that has any, in order; a store on a network is asked for many at once."""
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(videos), _AT_ONCE):
            some = videos[start : start + _AT_ONCE]
            for video, embedding in zip(some, readers.map(partial(_embedding, cache=cache), some), strict=True):
                if embedding is not None:
                    yield video.video_id, embedding


def _embedding(video: EmbeddedVideo, cache: Cache) -> Embedding | None:
    try:
        return video.embedding(cache)
    except CancelOut:
        return None


@dataclass
class RetrieveByVectors(beam.PTransform):
    """(Retrieved, Video with frames) -> Retrieved with one run more ("found"), and what was lost on the way.

    "embedded" are the videos with vectors, "unembedded" the losses of the others; "losses" are queries without vectors,
    and all where a video's vectors are left for a later run: half a corpus would give other candidates. And WORK.
    """

    name: str
    engine: EmbedEngine
    cache: Cache
    journal: Journal
    depth: int
    weights: FieldWeights | None = None
    options: SearchOptions = SEARCH

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection[Video]]) -> dict[str, beam.PCollection]:
        queries, videos = inputs
        fields = self.weights.by_field() if self.weights else {}
        embed = EmbedVideos(self.name, self.engine, self.cache, self.journal, fields)
        vectors = videos | "Embed videos" >> embed
        space = self.engine.stamp().fingerprint
        pack = PackVideos(self.name, space, self.cache, self.journal)
        packed = (vectors.embedded, vectors[LOSSES]) | "Pack" >> pack
        corpus = beam.pvalue.AsSingleton(packed.corpus)
        asked = queries | "Embed queries" >> EmbedQueries(self.engine, self.journal, query_of)
        search = beam.ParDo(_Search(self.name, self.cache, self.depth, self.options), corpus)
        found = asked.embedded | "Search" >> search.with_outputs(LOSSES, main="found")
        losses = (asked[LOSSES], found[LOSSES]) | "Lost" >> beam.Flatten()
        return {
            "found": found.found,
            "losses": losses,
            "embedded": packed[PACKED],
            "unembedded": (vectors[LOSSES], packed[LOSSES]) | "Without vectors" >> beam.Flatten(),
            WORK: (vectors[WORK], asked[WORK]) | "Work" >> beam.Flatten(),
        }


def query_of(found: Retrieved) -> Query:
    """The query of what was retrieved for it."""
    return found.query


class _Search(beam.DoFn):
    """(Retrieved, Embedding) -> Retrieved, many at a time; which of them a bundle holds changes none of them."""

    def __init__(self, name: str, cache: Cache, depth: int, options: SearchOptions) -> None:
        self.name, self.cache, self.depth, self.options = name, cache, depth, options
        self.shared = Shared()  # one pack a process, mapped into its memory

    def start_bundle(self) -> None:
        self._waiting: list[tuple[Retrieved, Embedding]] = []
        self._pack: Pack | None = None

    def process(self, element: tuple[Retrieved, Embedding], corpus: Corpus) -> Iterator[Any]:
        found, _ = element
        if corpus.waits:
            query = found.query
            advance("retrieve", "deferred")
            yield lost(Loss("deferred", "mine", "retrieve", corpus.waits, "", query.video_id, query.query_id))
            return
        if corpus.pack is not None and self._pack is None:
            self._pack = self.shared.acquire(partial(self._open, corpus), tag=corpus.pack)
        self._waiting.append(element)
        if len(self._waiting) >= _AT_ONCE:
            yield from self._search()

    def finish_bundle(self) -> Iterator[Any]:
        yield from map(GlobalWindows.windowed_value, self._search())

    def _search(self) -> list[Retrieved]:
        waiting, self._waiting = self._waiting, []
        if self._pack is None:
            return [found.and_run(self.name, Candidates()) for found, _ in waiting]
        asked, own = [embedding for _, embedding in waiting], [found.query.video_id for found, _ in waiting]
        results = search_many(self._pack, asked, self.depth, self.options, own)
        return [
            found.and_run(self.name, one.candidates, one.positive_score)
            for (found, _), one in zip(waiting, results, strict=True)
        ]

    def _open(self, corpus: Corpus) -> Pack:
        # What is mapped stays, though a file that was made or copied for this alone is removed.
        if corpus.unpacked:
            with _packed(corpus.unpacked, self.cache, "") as path:
                return open_pack(path)
        with self.cache.reading(corpus.pack or "") as path:
            return open_pack(path)
