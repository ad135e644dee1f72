"""Retrieval by vectors: the pack of a corpus, queries embedded and searched in bundles, and what is lost on the way."""

import math
from contextlib import closing
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from schemas.video import AsrSegment, EngineStamp, Evidence
from tests.support.ranking_records import query, video
from transforms.journal.budget import Budget
from transforms.journal.journal import Journal
from transforms.mine import search_vectors
from transforms.mine.documents import EVEN
from transforms.mine.embed import EmbeddedVideo
from transforms.mine.retrieve import Retrieved
from transforms.mine.search_vectors import Corpus, PackVideos, RetrieveByVectors
from transforms.protocols.embed import Embedding
from transforms.search.vector_file import write_vectors
from transforms.storage.cache import Cache, CachedFile
from transforms.storage.cache_failed import CacheFailed

VIDEOS = [video("north", "0"), video("east", "90"), video("south", "180"), video("wordless"), video("odd", "refused")]
EMBEDDED: list[str] = []


@dataclass(frozen=True)
class Compass:
    """An embedder of angles in degrees that people wrote down; it refuses what is none."""

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    reads: ClassVar[Literal["text"]] = "text"
    at_once: ClassVar[int] = 2

    def load(self) -> "Compass":
        return self

    def stamp(self) -> EngineStamp:
        return EngineStamp("compass", "1", "", "c0")

    query_stamp = document_stamp = stamp

    def embed_text(self, text: str) -> Embedding:
        EMBEDDED.append(text)
        if not text.isdigit():
            raise ValueError(f"{text} is no angle")
        return Embedding.of(np.array([math.cos(math.radians(int(text))), math.sin(math.radians(int(text)))]))

    embed_query = embed_text


KEPT: dict[str, list] = {}


def keep(item, name: str) -> None:
    KEPT[name].append(item)


def retrieve(cache: str, angles: list[str], budget: Budget | None = None, workers: int = 1, look_only: bool = False):
    """What of each query is found, by id, and what is lost: of queries and of videos."""
    KEPT.update({name: [] for name in ("found", "losses", "embedded", "unembedded")})
    EMBEDDED.clear()
    flags = ["--direct_running_mode=multi_threading", f"--direct_num_workers={workers}"]
    with closing(Journal(cache, "all", budget or Budget(), look_only)) as journal:
        pipeline = beam.Pipeline(runner="FnApiRunner", options=PipelineOptions(flags))
        queries = [Retrieved(query(f"q{n:03d}", "north", angle)) for n, angle in enumerate(angles)]
        asked = pipeline | "Queries" >> beam.Create(queries) | beam.Reshuffle()
        corpus = pipeline | "Videos" >> beam.Create(VIDEOS)
        made = (asked, corpus) | RetrieveByVectors("angle", Compass(), Cache(cache), journal, 2, EVEN)
        for name in KEPT:
            _ = made[name] | f"Keep {name}" >> beam.Map(keep, name)
        pipeline.run().wait_until_finish()
    found = {one.query.query_id: [(name, run.video_ids) for name, run in one.runs] for one in KEPT["found"]}
    return found, KEPT["losses"], KEPT["unembedded"]


def packs(cache) -> list[str]:
    return sorted(path.name for path in cache.glob("packs/*/*"))


def test_each_query_finds_the_nearest_and_each_video_without_vectors_is_told(tmp_path):
    found, losses, videos = retrieve(str(tmp_path), ["10", "100", "170"])

    assert found == {
        "q000": [("angle", ("north", "east"))],
        "q001": [("angle", ("east", "south"))],
        "q002": [("angle", ("south", "east"))],
    }
    assert losses == []
    own = {one.query.query_id: dict(one.own)["angle"] for one in KEPT["found"]}  # also where two others are nearer
    assert own == {f"q{n:03d}": pytest.approx(math.cos(math.radians(angle))) for n, angle in enumerate((10, 100, 170))}
    assert sorted((loss.kind, loss.step, loss.reason, loss.video_id) for loss in videos) == [
        ("failed", "embed angle", "EngineFailed", "odd"),
        ("rejected", "embed angle", "no words", "wordless"),
    ]
    assert len(packs(tmp_path)) == 1


def test_a_second_run_embeds_nothing_and_bundles_and_workers_change_no_byte(tmp_path):
    angles = [str(angle) for angle in range(0, 360, 1)]
    first, packed = retrieve(str(tmp_path), angles)[0], packs(tmp_path)
    runs = [[candidates for _, candidates in one.runs] for one in sorted(KEPT["found"], key=lambda r: r.query.query_id)]

    assert len(first) == 360  # more than are searched at once
    for workers in (1, 3):
        assert retrieve(str(tmp_path), angles[::-1], workers=workers)[0].keys() == first.keys()
        again = sorted(KEPT["found"], key=lambda r: -int(r.query.query_id[1:]))
        assert [[candidates for _, candidates in one.runs] for one in again] == runs
        assert set(EMBEDDED) <= {"refused"}  # what failed before is tried again
        assert packs(tmp_path) == packed


def test_a_query_that_cannot_be_embedded_is_lost_alone(tmp_path):
    found, losses, _ = retrieve(str(tmp_path), ["10", "up"])

    assert found.keys() == {"q000"}
    (loss,) = losses
    assert (loss.kind, loss.stage, loss.step, loss.query_id) == ("failed", "mine", "retrieve", "q001")


def test_queries_wait_for_a_corpus_that_is_not_whole_and_the_same_run_goes_on(tmp_path):
    found, losses, videos = retrieve(str(tmp_path), ["10"], Budget(max_calls=3))

    assert found == {}
    assert [(loss.kind, loss.step, loss.query_id) for loss in losses] == [("deferred", "retrieve", "q000")]
    assert "deferred" in {loss.kind for loss in videos}
    assert packs(tmp_path) == []
    assert retrieve(str(tmp_path), ["10"])[0] == {"q000": [("angle", ("north", "east"))]}


def test_a_pack_that_was_cut_short_or_changed_is_packed_again(tmp_path):
    first = retrieve(str(tmp_path), ["10"])[0]
    (pack,) = tmp_path.glob("packs/*/*")
    whole = pack.read_bytes()
    for damaged in (whole[:-9], whole.replace(np.float32(1.0).tobytes(), np.float32(-1.0).tobytes(), 1)):
        assert damaged != whole
        pack.write_bytes(damaged)

        assert retrieve(str(tmp_path), ["10"])[0] == first
        assert pack.read_bytes() == whole


def test_vectors_that_cannot_be_packed_are_one_line_that_names_the_fix(tmp_path):
    cache = Cache(str(tmp_path))

    def embedded(video_id: str, *vector: float) -> EmbeddedVideo:
        write_vectors(str(tmp_path / "vectors"), Embedding.of(np.array(vector)))
        return EmbeddedVideo(video_id, ((cache.publish(str(tmp_path / "vectors"), video_id), 1),))

    videos = [embedded("a", 1, 0), embedded("b", 1, 0, 0)]
    with (
        pytest.raises(CacheFailed, match=r"'b' has 3 dimensions .* another model of the same name .*cache prune"),
        search_vectors._packed(videos, cache, "space"),
    ):
        pass
    (tmp_path / "b").write_bytes((tmp_path / "b").read_bytes()[:-5])
    with (
        pytest.raises(CacheFailed, match=r"b is no vector file: .*; delete it, and its video is embedded again"),
        search_vectors._packed(videos, cache, "space"),
    ):
        pass


def test_a_pack_of_another_format_is_not_taken_for_one_of_this(tmp_path, monkeypatch):
    retrieve(str(tmp_path), ["10"])
    monkeypatch.setattr(search_vectors, "FORMAT", 0)
    retrieve(str(tmp_path), ["10"])

    assert len(packs(tmp_path)) == 2


def test_a_look_finds_what_a_run_would_and_writes_no_pack(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "VIDEOS", VIDEOS[:4])
    first = retrieve(str(tmp_path), ["10"])[0]
    (pack,) = tmp_path.glob("packs/*/*")
    assert retrieve(str(tmp_path), ["10"], look_only=True)[0] == first
    pack.unlink()

    assert retrieve(str(tmp_path), ["10"], look_only=True)[:2] == (first, [])
    assert packs(tmp_path) == []


def test_a_look_at_a_remote_cache_without_a_pack_brings_no_vectors_here(monkeypatch):
    pack = PackVideos("angle", "space", Cache("memory://cache"), Journal("memory://cache", look_only=True))
    monkeypatch.setattr(Cache, "size", lambda *_: None)
    embedded = EmbeddedVideo("north", ((CachedFile("vectors/aa/aa.npz", 8, "0" * 64), 1),))

    corpus, packed = pack._pack("", [embedded, None])
    assert (corpus, packed.value) == (Corpus(waits="not packed"), embedded)


def test_a_video_whose_fields_cancel_out_is_told_and_the_others_are_packed_without_it(tmp_path, monkeypatch):
    torn = replace(video("torn"), evidence=Evidence("0", (AsrSegment(0.0, 1.0, "180", 1.0),)))
    monkeypatch.setitem(globals(), "VIDEOS", [VIDEOS[0], torn])

    for packed in (1, 1):  # made, and found
        found, losses, videos = retrieve(str(tmp_path), ["10"])
        assert (found, losses, len(packs(tmp_path))) == ({"q000": [("angle", ("north",))]}, [], packed)
        assert [one.video_id for one in KEPT["embedded"]] == ["north"]
        (loss,) = videos
        assert (loss.kind, loss.step, loss.reason, loss.video_id) == (
            "rejected",
            "embed angle",
            "fields cancel out",
            "torn",
        )
        assert loss.detail.startswith("mine.first_stages.angle.fields: ")


def test_a_corpus_of_which_every_video_cancels_out_has_no_candidates(tmp_path, monkeypatch):
    torn = replace(video("torn"), evidence=Evidence("0", (AsrSegment(0.0, 1.0, "180", 1.0),)))
    monkeypatch.setitem(globals(), "VIDEOS", [torn])

    found, _, videos = retrieve(str(tmp_path), ["10"])

    assert (found, [loss.reason for loss in videos]) == ({"q000": [("angle", ())]}, ["fields cancel out"])


def test_a_corpus_without_vectors_has_no_candidates(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "VIDEOS", [video("wordless")])
    assert retrieve(str(tmp_path), ["10"])[0] == {"q000": [("angle", ())]}
