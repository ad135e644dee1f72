import shutil
import wave
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from schemas.losses import Loss
from schemas.query import Query
from schemas.usage import Usage
from schemas.video import Evidence, MediaFacts, Metadata, Video
from transforms.journal.budget import Budget, Deferred
from transforms.journal.counts import counted_aside
from transforms.journal.journal import Journal
from transforms.journal.record import RecordedFailure
from transforms.ledger import LOSSES
from transforms.media.frame_pack import read_frame_pack, write_frame_pack
from transforms.mine.embed import (
    CancelOut,
    EmbeddedVideo,
    EmbedQueries,
    EmbedVideos,
    embed_query,
    embed_video,
    join_fields,
)
from transforms.protocols.embed import Embedding
from transforms.protocols.engine import EngineError, stamp_of
from transforms.protocols.frames import Frame
from transforms.storage.cache import Cache

QUERY = Query("q1", "v1", "Who rings the bell?", "human")


@dataclass(frozen=True)
class Letters:
    """Counts letters: a text's vector is how often each of the first eight occurs; of frames, the mean and the times.

    ``query_prompt`` and ``document_prompt`` are put before either; ``fails`` is a word that it cannot read. ``several``
    gives a vector for every word.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""

    reads: str = "text"
    query_prompt: str = ""
    document_prompt: str = ""
    fails: str = "\N{SNOWMAN}"
    several: bool = False

    def load(self):
        return self

    def stamp(self):
        return stamp_of(self, "letters", "")

    def query_stamp(self):
        return replace(self, document_prompt="").stamp()

    def document_stamp(self):
        return replace(self, query_prompt="").stamp()

    def embed_query(self, text: str) -> Embedding:
        return self._embed(self.query_prompt + text)

    def embed_text(self, text: str) -> Embedding:
        return self._embed(self.document_prompt + text)

    def embed_frames(self, frames: Sequence[Frame]) -> Embedding:
        return Embedding.of(np.array([[frame.time_s + 1, frame.image.mean(), 1.0] for frame in frames]).mean(axis=0))

    def _embed(self, text: str) -> Embedding:
        if self.fails in text:
            raise ConnectionError("server\nhung up")
        if "refuse" in text:
            raise EngineError("the key was refused")
        words = text.split() if self.several else [text]
        rows = [[1 + word.count(letter) for letter in "abcdefgh"] for word in words]
        return Embedding.of(np.array(rows, float), usage=Usage(input_tokens=len(text), output_tokens=0))


@dataclass(frozen=True)
class ServedLetters(Letters):
    """The same, as if a server counted."""

    at_once: ClassVar[int] = 4


def video(number: int = 1, **evidence) -> Video:
    pack = f"frames/00/{number}.parquet" if evidence.pop("frames", False) else None
    return Video(f"v{number}", f"{number}.mp4", MediaFacts("0" * 64, 1), Evidence(**evidence), pack, 3 if pack else 0)


TALKING = video(caption="a dog", metadata=Metadata(title="bad dad"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(str(tmp_path / "cache"))
    for number in (1, 2):
        frames = [Frame(float(t), np.full((36, 64, 3), 20 * t, dtype=np.uint8)) for t in range(3 * number)]
        write_frame_pack(str(tmp_path / "made"), frames, quality=90)
        cache.publish(str(tmp_path / "made"), f"frames/00/{number}.parquet")
    return cache


def runs(journal: Journal, work) -> tuple[list[str], object]:
    """What became of each result that ``work`` asked for, and what it gave."""
    with counted_aside() as counts:
        found = work()
    return [outcome for _, outcome, _ in counts if outcome in ("run", "cached", "failed", "deferred")], found


def test_a_query_is_embedded_once_and_its_vectors_come_back_bit_for_bit(journal):
    outcomes, first = runs(journal, lambda: embed_query(QUERY, Letters(), journal))
    again, second = runs(journal, lambda: embed_query(QUERY, Letters(), journal))

    assert (outcomes, again) == (["run"], ["cached"])
    assert first.vectors.tobytes() == second.vectors.tobytes() == Letters().embed_query(QUERY.text).vectors.tobytes()
    assert (first.levels, second.usage.input_tokens) == ((1,), len(QUERY.text))


def test_the_vector_of_a_text_is_the_weighted_sum_of_those_of_its_fields(cache, journal):
    embedded = embed_video(TALKING, Letters(), cache, journal, {"caption": 2, "metadata": 1, "asr": 5})

    caption, title = (Letters().embed_text(text).vectors[0] for text in ("a dog", "bad dad"))
    wanted = 2 * caption + title
    found = embedded.embedding(cache)
    assert found.vectors[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)
    assert found.levels == (1,)


def test_another_weight_embeds_nothing_anew_and_one_of_0_leaves_a_field_out(cache, journal):
    def embed(**weights: int) -> tuple[list[str], EmbeddedVideo]:
        return runs(journal, lambda: embed_video(TALKING, Letters(), cache, journal, weights))

    first, all_fields = embed(caption=1, metadata=1)
    again, weighted = embed(caption=9, metadata=1)
    alone, caption = embed(caption=3, metadata=0)

    assert (first, again, alone) == (["run", "run"], ["cached", "cached"], ["cached"])
    assert {file for file, _ in all_fields.files} == {file for file, _ in weighted.files}
    assert all_fields.embedding(cache).vectors.tobytes() != weighted.embedding(cache).vectors.tobytes()
    assert caption.embedding(cache).vectors.tobytes() == Letters().embed_text("a dog").vectors.tobytes()


def test_of_several_vectors_a_field_all_are_kept(cache, journal):
    embedded = embed_video(TALKING, Letters(several=True), cache, journal)

    assert embedded.embedding(cache).levels == (4,)


@pytest.mark.parametrize("off", [0.0, 1e-7])
def test_a_sum_of_fields_that_is_zero_but_for_rounding_is_refused(off):
    one, other = (Embedding.of(np.array([[x, y]])) for x, y in ((3.0, 4.0), (-3.0, -4.0 + off)))
    with pytest.raises(CancelOut, match="add up to nothing"):
        join_fields([(one, 2), (other, 2)])
    assert join_fields([(one, 2), (other, 1)]).vectors.tobytes() == one.vectors.tobytes()


def test_a_video_without_words_makes_no_call_and_has_no_vector(cache, journal):
    for silent in (video(), video(caption=" \n")):
        assert runs(journal, lambda silent=silent: embed_video(silent, Letters(), cache, journal)) == ([], None)
    assert embed_video(TALKING, Letters(), cache, journal, {"asr": 1, "caption": 0}) is None
    assert embed_video(video(), Letters(reads="frames"), cache, journal) is None


def test_frames_are_given_with_their_times_and_the_pack_is_what_decides(cache, journal):
    eyes = Letters(reads="frames")
    first = embed_video(video(1, frames=True), eyes, cache, journal).embedding(cache)
    other = embed_video(video(2, frames=True), eyes, cache, journal).embedding(cache)
    outcomes, same = runs(
        journal, lambda: embed_video(replace(video(1, frames=True), uri="moved.mp4"), eyes, cache, journal)
    )

    assert first.vectors[0] == pytest.approx(np.array([2, 20, 1]) / np.linalg.norm([2, 20, 1]), abs=2e-2)
    assert first.vectors.tobytes() != other.vectors.tobytes()
    assert (outcomes, same.embedding(cache).vectors.tobytes()) == (["cached"], first.vectors.tobytes())


@dataclass(frozen=True)
class Ears(Letters):
    """Hears as well: the sum of the samples that it is given is one number more."""

    reads: str = "frames"
    sound_s: float = 0.25

    def embed_frames_and_sound(self, frames: Sequence[Frame], sound: np.ndarray) -> Embedding:
        return Embedding.of(np.array([*self.embed_frames(frames).vectors[0], float(sound.sum())]))


def test_an_engine_that_hears_is_given_the_beginning_of_the_sound_where_there_is_any(cache, journal, tmp_path):
    samples = np.full(8000, 3, np.int16)
    with wave.open(str(tmp_path / "made.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    cache.publish(str(tmp_path / "made.wav"), "audio/00/1.flac")
    silent = video(1, frames=True)
    loud = replace(silent, audio="audio/00/1.flac")

    def embedded(seen: Video, engine: Letters) -> tuple[list[str], list[float]]:
        outcomes, found = runs(journal, lambda: embed_video(seen, engine, cache, journal))
        return outcomes, found.embedding(cache).vectors[0].tolist()

    seen = Letters().embed_frames(read_frame_pack(f"{cache.root}/{silent.frame_pack}")).vectors[0]
    heard = Embedding.of(np.array([*seen, 3.0 * 4000])).vectors[0].tolist()
    assert embedded(loud, Ears()) == (["run"], heard)
    assert embedded(loud, Ears()) == (["cached"], heard)
    assert embedded(silent, Ears()) == (["run"], seen.tolist())
    assert embedded(loud, Ears(sound_s=0.0))[1] == embedded(loud, Letters(reads="frames"))[1] == seen.tolist()


def test_a_frame_pack_that_cannot_be_read_stops_the_run_and_is_no_failure_of_its_video(cache, journal):
    seen, eyes = video(1, frames=True), Letters(reads="frames")
    pack = Path(cache.root) / seen.frame_pack
    pack.rename(pack.with_suffix(".away"))

    with pytest.raises(FileNotFoundError, match="was it emptied during the run"):
        embed_video(seen, eyes, cache, journal)
    assert not journal.holds("embed_video")


def test_each_side_has_keys_of_its_own(cache, journal):
    def ask(engine: Letters):
        embed_query(QUERY, engine, journal)
        embed_video(TALKING, engine, cache, journal)

    assert runs(journal, lambda: ask(Letters()))[0] == ["run", "run", "run"]
    assert runs(journal, lambda: ask(Letters(query_prompt="query: ")))[0] == ["run", "cached", "cached"]
    assert runs(journal, lambda: ask(Letters(document_prompt="passage: ")))[0] == ["cached", "run", "run"]


def test_embedding_again_after_a_kill_or_a_loss_of_files_gives_the_same_bytes(cache, journal, tmp_path):
    embedded = embed_video(TALKING, Letters(), cache, journal)
    kept = {file.key: (tmp_path / "cache" / file.key).read_bytes() for file, _ in embedded.files}
    journal.close()
    shutil.rmtree(tmp_path / "cache/vectors/" / embedded.files[0][0].key.split("/")[1])

    with closing(Journal(str(tmp_path / "cache"))) as later:
        outcomes, again = runs(later, lambda: embed_video(TALKING, Letters(), cache, later))
    assert sorted(outcomes) == ["cached", "run"]
    assert again == embedded
    assert {file.key: (tmp_path / "cache" / file.key).read_bytes() for file, _ in again.files} == kept


def test_a_failure_is_recorded_and_a_plan_sees_every_field_that_is_missing(cache, journal, tmp_path):
    with pytest.raises(RecordedFailure, match="ConnectionError: server hung up") as failed:
        embed_video(TALKING, Letters(fails="dog"), cache, journal)
    assert (failed.value.error_class, failed.value.permanent) == ("EngineFailed", False)
    with pytest.raises(EngineError, match="refused"):
        embed_query(replace(QUERY, text="refuse"), Letters(), journal)
    with closing(Journal(str(tmp_path / "empty"), look_only=True)) as look:
        for ask in (
            lambda: embed_video(TALKING, Letters(), cache, look),
            lambda: embed_query(QUERY, Letters(), look),
        ):
            with pytest.raises(Deferred, match="not run"):
                ask()
        assert sorted((miss.key.step, miss.key.subject) for miss in look.misses()) == [
            ("embed_query", "q1"),
            ("embed_video", "1.mp4 caption"),
            ("embed_video", "1.mp4 metadata"),
        ]


def test_a_budget_counts_the_calls_of_a_server_and_not_the_work_of_this_process(cache, tmp_path):
    with closing(Journal(str(tmp_path / "bounded"), budget=Budget(max_calls=1))) as journal:
        embed_video(TALKING, Letters(), cache, journal)
        embed_query(QUERY, ServedLetters(), journal)
        with pytest.raises(Deferred, match="max calls"):
            embed_query(replace(QUERY, text="another"), ServedLetters(), journal)


@pytest.mark.parametrize("engine", [Letters(fails="cat"), ServedLetters(fails="cat")])
def test_videos_and_queries_pass_with_their_vectors_and_what_does_not_is_accounted_for(cache, journal, engine):
    videos = [TALKING, video(2, caption="a cat"), video(3)]
    queries = [QUERY, replace(QUERY, query_id="q2", text="a cat?")]
    message = "ConnectionError: server hung up"
    with TestPipeline() as pipeline:
        seen = pipeline | "Videos" >> beam.Create(videos) | EmbedVideos("dense", engine, cache, journal)
        asked = pipeline | "Queries" >> beam.Create(queries) | EmbedQueries(engine, journal)
        assert_that(seen["embedded"] | beam.Map(_id_and_dims, cache), equal_to([("v1", 8)]), "embedded")
        assert_that(
            seen[LOSSES],
            equal_to(
                [
                    Loss("failed", "mine", "embed dense", "EngineFailed", message, "v2", uri="2.mp4"),
                    Loss("rejected", "mine", "embed dense", "no words", "", "v3"),
                ]
            ),
            "videos lost",
        )
        dims = asked["embedded"] | "Dims" >> beam.MapTuple(lambda query, embedding: (query.query_id, embedding.dims))
        assert_that(dims, equal_to([("q1", 8)]), "asked")
        lost = Loss("failed", "mine", "retrieve", "EngineFailed", message, "v1", "q2")
        assert_that(asked[LOSSES], equal_to([lost]), "queries lost")


def _id_and_dims(embedded: EmbeddedVideo, cache: Cache) -> tuple[str, int]:
    return embedded.video_id, embedded.embedding(cache).dims
