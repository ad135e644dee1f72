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
from transforms.mine.embed import EmbeddedVideo, EmbedQueries, EmbedVideos
from transforms.mine.retrieve import Retrieved
from transforms.progress import advance
from transforms.protocols.embed import Embedding, EmbedEngine
from transforms.search.pack import FORMAT, NotAPack, Pack, open_pack, write_pack
from transforms.search.search import SearchOptions, search_many
from transforms.search.vector_file import NotVectors
from transforms.storage.address import is_remote
from transforms.storage.cache import Cache
from transforms.storage.cache_failed import CacheFailed
from transforms.workers.recorded import WORK

NOT_PACKED = "not packed"  # why queries wait in a look at what a run would do: it brings no corpus here to pack it
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
    """(EmbeddedVideo, Loss of a video) -> one Corpus; its file is named by what is in it, and written only once."""

    space: str
    cache: Cache
    journal: Journal

    def expand(self, inputs: tuple[beam.PCollection, beam.PCollection]) -> beam.PCollection:
        embedded, losses = inputs
        waiting = losses | "Waiting" >> beam.Filter(lambda loss: loss.kind == "deferred")
        none = embedded.pipeline | "Always" >> beam.Create([None], reshuffle=False)
        return (
            (embedded, waiting, none)
            | "All" >> beam.Flatten()
            | "One key" >> beam.Map(lambda item: ("", item))
            | "Together" >> beam.GroupByKey()
            | "Pack" >> beam.MapTuple(self._pack)
        )

    def _pack(self, _: str, items: Iterable[EmbeddedVideo | Loss | None]) -> Corpus:
        found = list(items)
        waits = min((item.reason for item in found if isinstance(item, Loss)), default="")
        videos = sorted((item for item in found if isinstance(item, EmbeddedVideo)), key=lambda video: video.video_id)
        if waits or not videos:
            return Corpus(waits=waits)
        content = [(video.video_id, [(file.sha256, weight) for file, weight in video.files]) for video in videos]
        name = fingerprint([FORMAT, self.space, content])
        key = f"packs/{name[:2]}/{name}.pack"
        if self._holds(key):
            return Corpus(key)
        if self.journal.look_only:
            return Corpus(waits=NOT_PACKED) if is_remote(self.cache.root) else Corpus(key, unpacked=tuple(videos))
        with _packed(videos, self.cache, self.space) as path:
            self.cache.publish(path, key)
        return Corpus(key)

    def _holds(self, key: str) -> bool:
        """Whether the cache has the pack, and whole."""
        if not self.cache.size(key):
            return False
        try:
            with self.cache.reading(key) as path:
                open_pack(path)
        except NotAPack:
            return False
        return True


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
    """The vectors of each video, in order; a store on a network is asked for many at once."""
    with ThreadPoolExecutor(_READERS) as readers:
        for start in range(0, len(videos), _AT_ONCE):
            some = videos[start : start + _AT_ONCE]
            yield from zip((v.video_id for v in some), readers.map(lambda v: v.embedding(cache), some), strict=True)


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
        corpus = (vectors.embedded, vectors[LOSSES]) | "Pack" >> PackVideos(space, self.cache, self.journal)
        asked = queries | "Embed queries" >> EmbedQueries(self.engine, self.journal, query_of)
        search = beam.ParDo(_Search(self.name, self.cache, self.depth, self.options), beam.pvalue.AsSingleton(corpus))
        found = asked.embedded | "Search" >> search.with_outputs(LOSSES, main="found")
        losses = (asked[LOSSES], found[LOSSES]) | "Lost" >> beam.Flatten()
        return {
            "found": found.found,
            "losses": losses,
            "embedded": vectors.embedded,
            "unembedded": vectors[LOSSES],
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
        results = search_many(self._pack, [embedding for _, embedding in waiting], self.depth, self.options)
        return [found.and_run(self.name, one.candidates) for (found, _), one in zip(waiting, results, strict=True)]

    def _open(self, corpus: Corpus) -> Pack:
        # What is mapped stays, though a file that was made or copied for this alone is removed.
        if corpus.unpacked:
            with _packed(corpus.unpacked, self.cache, "") as path:
                return open_pack(path)
        with self.cache.reading(corpus.pack or "") as path:
            return open_pack(path)
