import json
import shutil
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.outputs.export.formats import EXPORTS
from schemas.check import InvalidRecord
from tests.support.tiny_output import write_tiny
from tests.support.tiny_vlm import build
from transforms.engines.embed.sentence_transformers import SentenceTransformers
from transforms.engines.local.model_folder import model_id
from transforms.engines.registry import find_engine
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.frames import Frame

TEXTS = ("a red ball rolls to the right", "a blue cube falls", "system user assistant Find it.")
TOKENS = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Checkpoints of one tiny Qwen3-VL: bare, of one vector an item, and of one a token."""
    from sentence_transformers import MultiVectorEncoder, SentenceTransformer
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    root = tmp_path_factory.mktemp("embedders")
    bare = build(root / "bare", texts=TEXTS)
    dense = [Transformer(str(bare)), Pooling(64, "lasttoken"), Normalize()]
    SentenceTransformer(modules=dense, device="cpu", prompts={"query": "Find it."}).save(str(root / "dense"))
    torch.manual_seed(0)
    down = Dense(64, 16, bias=False, activation_function=torch.nn.Identity(), **TOKENS)
    late = [Transformer(str(bare)), down, Normalize(**TOKENS)]
    MultiVectorEncoder(modules=late, device="cpu").save(str(root / "late"))
    return {name: str(root / name) for name in ("bare", "dense", "late")}


@pytest.fixture
def engine(folders) -> Iterator:
    def make(name: str = "dense", **options) -> SentenceTransformers:
        given = {"engine": "sentence_transformers", "model": folders[name], "device": "cpu", **options}
        return find_engine("embed", given)

    return make


def frames(count: int, seed: int = 0, every_s: float = 1.0) -> list[Frame]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return [Frame(every_s * number, image) for number, image in enumerate(pixels)]


def test_texts_and_frames_lie_in_one_space_and_each_has_one_unit_vector(engine):
    embedder = loaded(engine(reads="frames"))

    for found in (embedder.embed_query(TEXTS[0]), embedder.embed_text(TEXTS[1]), embedder.embed_frames(frames(6))):
        assert (found.levels, found.dims) == ((1,), 64)
        assert np.linalg.norm(found.vectors) == pytest.approx(1, abs=1e-6)


def test_the_times_of_frames_count(engine):
    embedder = loaded(engine(reads="frames"))
    shown = frames(6)
    slower = [replace(frame, time_s=2.5 * frame.time_s) for frame in shown]
    unevenly = [replace(frame, time_s=frame.time_s**2) for frame in shown]

    vectors = [embedder.embed_frames(each).vectors for each in (shown, slower, unevenly)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(vectors[one] - vectors[other]).max() > 0.01


def test_an_item_has_the_same_vector_whatever_came_before_it(engine):
    embedder = loaded(engine(reads="frames"))
    videos = [frames(count, seed) for seed, count in enumerate((2, 7, 4))]

    first = [embedder.embed_frames(video).vectors.tobytes() for video in videos]
    embedder.embed_query(TEXTS[1])
    assert [embedder.embed_frames(video).vectors.tobytes() for video in reversed(videos)] == first[::-1]


def test_at_most_so_many_frames_are_seen_evenly_spread_and_one_alone_is_enough(engine):
    shown = frames(8)
    few, all_of_them = (loaded(engine(reads="frames", frames=count)) for count in (4, 8))

    assert few.embed_frames(shown).vectors.tobytes() == all_of_them.embed_frames(shown[1::2]).vectors.tobytes()
    twice = [shown[0], replace(shown[0])]
    assert few.embed_frames(shown[:1]).vectors.tobytes() == few.embed_frames(twice).vectors.tobytes()


def test_a_prompt_of_the_recipe_takes_the_place_of_the_checkpoints_own(engine):
    own, same, other = (loaded(engine(query_prompt=prompt)) for prompt in (None, "Find it.", "Find another."))

    asked = [embedder.embed_query(TEXTS[0]).vectors.tobytes() for embedder in (own, same, other)]
    assert asked[0] == asked[1] != asked[2]
    assert own.embed_text(TEXTS[0]).vectors.tobytes() == other.embed_text(TEXTS[0]).vectors.tobytes()


def test_each_side_is_stamped_with_what_decides_it(engine):
    plain = engine(reads="frames")

    def differ(**options) -> tuple[bool, bool]:
        other = engine(**{"reads": "frames", **options})
        return (other.query_stamp() != plain.query_stamp(), other.document_stamp() != plain.document_stamp())

    assert differ(query_prompt="x") == (True, False)
    for options in ({"document_prompt": "x"}, {"frames": 3}, {"vectors": 3}, {"reads": "text"}):
        assert differ(**options) == (False, True)
    for options in ({"truncate_dim": 8}, {"dtype": "float32"}):
        assert differ(**options) == (True, True)
    assert differ(device="auto", licence="of its own") == (False, False)
    assert len({plain.stamp(), plain.query_stamp(), plain.document_stamp()}) == 3


def test_vectors_are_cut_and_then_brought_to_length_1(engine):
    whole, cut = (loaded(engine(truncate_dim=dim)).embed_query(TEXTS[0]).vectors[0] for dim in (None, 8))

    assert cut == pytest.approx(whole[:8] / np.linalg.norm(whole[:8]), abs=1e-6)


def test_a_checkpoint_of_a_transformer_alone_needs_to_be_told_how_tokens_become_a_vector(engine):
    with pytest.raises(EngineError, match="does not say how tokens become a vector; set pooling to lasttoken"):
        engine("bare").check()
    last = engine("bare", pooling="lasttoken")
    last.check()

    asked = loaded(last).embed_query(TEXTS[0]).vectors
    assert asked.tobytes() == loaded(engine(query_prompt="")).embed_query(TEXTS[0]).vectors.tobytes()
    started = loaded(replace(last, generation_prompt=True)).embed_query(TEXTS[0]).vectors
    assert np.abs(asked - started).max() > 0.01


def test_of_one_vector_a_token_those_of_template_and_prompt_are_left_out(engine):
    plain = loaded(engine("late", reads="frames"))
    prompted = loaded(engine("late", reads="frames", query_prompt="Find it.", document_prompt="Find it."))
    tokenizer = plain._model.tokenizer

    for embedder in (plain, prompted):
        assert len(embedder.embed_query(TEXTS[0]).vectors) == len(tokenizer.encode(TEXTS[0]))
        assert len(embedder.embed_text(TEXTS[1]).vectors) == len(tokenizer.encode(TEXTS[1]))
        shown = embedder.embed_frames(frames(6)).vectors
        assert shown.shape == (3 * 4, 16)  # pairs of frames, patches of each
    scores = [
        float((plain.embed_query(TEXTS[0]).vectors @ plain.embed_frames(frames(6, seed)).vectors.T).max(axis=1).mean())
        for seed in (1, 2)
    ]
    assert abs(scores[0] - scores[1]) > 1e-4
    assert max(scores) < 0.999


@pytest.fixture(scope="module")
def hearing(tmp_path_factory) -> str:
    from tests.support import tiny_omni

    return str(tiny_omni.build(tmp_path_factory.mktemp("omni") / "thinker", TEXTS))


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-9000, 9000, round(16_000 * seconds), np.int16)


def test_the_sound_of_a_video_counts_where_the_model_hears(engine, hearing):
    given = {"model": hearing, "pooling": "mean", "reads": "frames"}
    hears = engine(sound_s=2.0, **given)
    embedder, shown = loaded(hears), frames(4)

    silent = embedder.embed_frames(shown)
    heard, again, other = (
        embedder.embed_frames_and_sound(shown, sound(2, seed)).vectors.tobytes() for seed in (0, 0, 1)
    )
    assert silent.dims == 64
    assert len({silent.vectors.tobytes(), heard, other}) == 3
    assert heard == again
    assert loaded(engine(**given)).embed_frames(shown).vectors.tobytes() == silent.vectors.tobytes()
    assert hears.document_stamp() != engine(**given).document_stamp()
    assert hears.query_stamp() == engine(**given).query_stamp()


@pytest.mark.parametrize("preset", ["omniembed", "omni-embed-nemotron-3b"])
def test_the_options_of_presets_that_hear_suit_a_model_of_their_family(preset, hearing):
    given = {"preset": preset, "model": hearing, "device": "cpu", "pooling": "mean"}
    embedder = loaded(find_engine("embed", given))
    shown = frames(4)

    asked, seen = embedder.embed_query(TEXTS[0]), embedder.embed_frames(shown)
    heard = embedder.embed_frames_and_sound(shown, sound(2))
    assert {asked.dims, seen.dims, heard.dims} == {64}
    assert seen.vectors.tobytes() != heard.vectors.tobytes()


def test_a_model_that_does_not_hear_is_refused_where_sound_is_to_be_given(engine):
    with pytest.raises(EngineError, match="takes no audio, but text"):
        engine(reads="frames", sound_s=2.0).load()
    with pytest.raises(EngineError, match="sound_s is for sound beside frames"):
        engine(sound_s=2.0)


def test_a_prompt_may_stand_in_the_text_and_an_ending_behind_the_start_of_the_answer(engine):
    given = {"pooling": "lasttoken", "generation_prompt": True, "reads": "frames"}
    plain = loaded(engine("bare", **given))
    asked = loaded(
        engine("bare", query_prompt="Query: ", document_prompt="", prompts_in="text", ending="<|endoftext|>", **given)
    )
    written = [
        embedder._model.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "text", "text": "x"}]}], add_generation_prompt=True
        )
        for embedder in (plain, asked)
    ]
    assert written[1] == written[0] + "<|endoftext|>"

    ended = loaded(engine("bare", ending="<|endoftext|>", **given))
    same = ended.embed_query("Query: " + TEXTS[0]).vectors.tobytes()
    assert asked.embed_query(TEXTS[0]).vectors.tobytes() == same != plain.embed_query(TEXTS[0]).vectors.tobytes()
    shown = frames(4)
    assert asked.embed_frames(shown).vectors.tobytes() == ended.embed_frames(shown).vectors.tobytes()
    assert asked.embed_frames(shown).vectors.tobytes() != plain.embed_frames(shown).vectors.tobytes()


def test_a_checkpoint_with_modules_may_be_taken_for_one_of_a_transformer_alone(engine):
    own, alone = engine("dense", pooling="mean"), engine("dense", pooling="mean", own_modules=False)
    mean = loaded(engine("bare", pooling="mean", query_prompt="")).embed_query(TEXTS[0]).vectors

    assert loaded(alone).embed_query(TEXTS[0]).vectors == pytest.approx(mean, abs=1e-6)
    assert np.abs(loaded(own).embed_query(TEXTS[0]).vectors - mean).max() > 0.01
    assert own.stamp() != alone.stamp()
    with pytest.raises(EngineError, match="own_modules: false needs pooling"):
        engine("dense", own_modules=False)


def test_a_model_that_takes_no_video_is_refused_where_frames_are_to_be_read(tmp_path):
    from tests.support import tiny_clip

    folder = str(tiny_clip.build(tmp_path / "clip", "clip", TEXTS))
    found = {"engine": "sentence_transformers", "model": folder, "pooling": "mean", "reads": "frames", "device": "cpu"}
    with pytest.raises(EngineError, match="takes no video, but text, image"):
        find_engine("embed", found).load()


def test_vectors_of_a_document_can_be_bounded(engine):
    embedder = loaded(engine("late", reads="frames", vectors=5))

    assert embedder.embed_frames(frames(6)).vectors.shape == (5, 16)
    assert np.linalg.norm(embedder.embed_frames(frames(6)).vectors, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    assert len(embedder.embed_query(TEXTS[0]).vectors) > 5


def test_a_module_without_files_may_have_no_folder(engine, folders, tmp_path):
    folder = shutil.copytree(folders["dense"], tmp_path / "copy")
    modules = json.loads((folder / "modules.json").read_text())
    listed = {"idx": 9, "name": "9", "path": "9_Normalize", "type": "sentence_transformers.models.Normalize"}
    (folder / "modules.json").write_text(json.dumps([*modules, listed]))

    engine(model=str(folder)).check()
    assert engine(model=str(folder)).document_stamp().model.startswith("sha256:")


def test_code_that_a_checkpoint_brings_along_is_part_of_its_name(engine, folders, tmp_path):
    folder = shutil.copytree(folders["dense"], tmp_path / "copy")
    (folder / "modeling_own.py").write_text("SCALE = 1\n")
    before = engine(model=str(folder), trust_remote_code=True).document_stamp()
    model_id.cache_clear()
    (folder / "modeling_own.py").write_text("SCALE = 2\n")

    assert engine(model=str(folder), trust_remote_code=True).document_stamp().fingerprint != before.fingerprint


def test_what_is_wrong_with_a_checkpoint_is_said_before_any_work(engine, folders, tmp_path, caplog):
    with pytest.raises(EngineError, match="neither a folder nor in this machine's Hugging Face cache"):
        engine(model="nobody/knows-it").check()
    (tmp_path / "modules.json").write_text(json.dumps([{"idx": 0, "path": "0_Transformer"}]))
    with pytest.raises(EngineError, match=r"has no config\.json"):
        engine(model=str(tmp_path)).check()
    (tmp_path / "modules.json").unlink()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match=r"cannot be loaded: "):
        engine(model=str(tmp_path), late_interaction=True).load()
    with pytest.raises(InvalidRecord, match="frames must be at least 1"):
        SentenceTransformers(model="m", frames=0)
    with pytest.raises(EngineError, match="needs a commit of nobody/knows-it as revision"):
        engine(model="nobody/knows-it", trust_remote_code=True).check()
    engine(trust_remote_code=True, licence="not for sale").check()
    assert caplog.messages == [f"{folders['dense']}: not for sale"]


def test_what_is_exported_for_multi_vector_encoders_is_what_their_loss_takes(folders, tmp_path):
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.multi_vector_encoder.data_collator import MultiVectorEncoderDataCollator
    from sentence_transformers.multi_vector_encoder.losses import MultiVectorDistillKLDivLoss

    write_tiny(tmp_path / "out")
    EXPORTS["sentence-transformers"](str(tmp_path / "out"), str(tmp_path / "to"), None, False)
    rows = [json.loads(line) for line in (tmp_path / "to" / "scored_train.jsonl").read_text().splitlines()]
    model = MultiVectorEncoder(folders["late"], device="cpu")

    batch = MultiVectorEncoderDataCollator(model.preprocess)(rows[:2])
    columns = ("query_", *(f"document_{n}_" for n in (1, 2, 3)))
    features = [
        {name.removeprefix(column): value for name, value in batch.items() if name.startswith(column)}
        for column in columns
    ]
    loss = MultiVectorDistillKLDivLoss(model)(features, batch["label"])

    assert batch["label"].tolist() == [row["label"] for row in rows[:2]]
    assert 0 <= loss.item() < float("inf")
