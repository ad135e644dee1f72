from dataclasses import replace

import numpy as np
import pytest

from tests.support import tiny_clip, tiny_vlm
from transforms.engines.embed.dual_encoder import DualEncoder
from transforms.engines.registry import find_engine
from transforms.protocols.engine import EngineError, loaded
from transforms.protocols.frames import Frame

TEXTS = ("a red ball rolls to the right", "A blue Cube falls", "a blue cube falls")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("dual")
    return {name: str(tiny_clip.build(root / name, name, TEXTS)) for name in tiny_clip.FAMILIES}


def engine_of(folder: str, **options) -> DualEncoder:
    return find_engine("embed", {"engine": "dual_encoder", "model": folder, "device": "cpu", **options})


def frames(count: int, seed: int = 0) -> list[Frame]:
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 48, 32, 3), dtype=np.uint8)
    return [Frame(float(number), image) for number, image in enumerate(pixels)]


@pytest.mark.parametrize("family", tiny_clip.FAMILIES)
def test_a_text_and_the_mean_of_frames_lie_in_one_space(folders, family):
    embedder = loaded(engine_of(folders[family]))
    shown = frames(6)

    one_by_one = np.concatenate([embedder.embed_frames([frame]).vectors for frame in shown]).astype(np.float64)
    mean = one_by_one.mean(axis=0)
    video, text = embedder.embed_frames(shown), embedder.embed_query(TEXTS[0])
    assert video.vectors[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert (video.levels, text.levels, video.dims) == ((1,), (1,), text.dims)
    assert np.abs(text.vectors - embedder.embed_query(TEXTS[2]).vectors).max() > 1e-3


@pytest.mark.parametrize("family", tiny_clip.FAMILIES)
def test_an_item_has_the_same_vector_whatever_came_before_it_and_times_count_for_nothing(folders, family):
    embedder = loaded(engine_of(folders[family]))
    first = embedder.embed_frames(frames(5)).vectors.tobytes()
    embedder.embed_frames(frames(3, seed=1))

    later = [replace(frame, time_s=9 + frame.time_s) for frame in frames(5)]
    assert embedder.embed_frames(frames(5)).vectors.tobytes() == first
    assert embedder.embed_frames(later).vectors.tobytes() == first


def test_siglip_reads_lower_case_that_fills_up_its_whole_length(folders):
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(folders["siglip"]) for kind in (AutoModel, AutoTokenizer))
    with torch.inference_mode():
        full = tokenizer([TEXTS[2]], padding="max_length", max_length=tiny_clip.POSITIONS, return_tensors="pt")
        wanted = model.get_text_features(input_ids=full.input_ids).pooler_output[0].numpy()
    embedder = loaded(engine_of(folders["siglip"]))

    for text in TEXTS[1:]:
        assert embedder.embed_query(text).vectors[0] == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-6)


def test_a_text_above_the_models_length_is_cut_off(folders):
    for family in tiny_clip.FAMILIES:
        embedder = loaded(engine_of(folders[family]))
        assert embedder.embed_query(f"{TEXTS[0]} " * 40).dims == embedder.embed_query("ball").dims


def test_at_most_so_many_frames_are_seen(folders):
    shown = frames(8)
    few = loaded(engine_of(folders["clip"], frames=4)).embed_frames(shown)

    assert few.vectors.tobytes() == loaded(engine_of(folders["clip"])).embed_frames(shown[1::2]).vectors.tobytes()


def test_each_side_is_stamped_with_what_decides_it(folders):
    plain = engine_of(folders["clip"])
    asked, fewer = replace(plain, query_prompt="a video of "), replace(plain, frames=3)

    assert asked.query_stamp() != plain.query_stamp()
    assert asked.document_stamp() == plain.document_stamp()
    assert (fewer.query_stamp(), fewer.document_stamp() == plain.document_stamp()) == (plain.query_stamp(), False)
    assert replace(plain, device="auto").stamp() == plain.stamp()


def test_a_model_of_another_kind_is_refused(tmp_path):
    other = engine_of(str(tiny_vlm.build(tmp_path / "vlm", texts=TEXTS)))
    other.check()
    with pytest.raises(EngineError, match="is a qwen3_vl; it takes clip, siglip, siglip2"):
        other.load()
