"""The model of Video-ColBERT: what depends on what, and what its folder holds."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoTokenizer

from tests.support import tiny_clip
from trainer.retriever.encoder import load_encoder
from trainer.retriever.folder import RetrieverError, content_hash
from trainer.retriever.inputs import Preparation
from trainer.retriever.losses import mean_max_sim
from trainer.retriever.model import Shape, load_video_colbert, start_video_colbert

TEXTS = ["a red ball moves left", "a blue cube falls down"]
SHAPE = Shape(frames=4, query_tokens=12, layers=2, heads=4)


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases")
    return {family: tiny_clip.build(folder / family, family, TEXTS) for family in tiny_clip.FAMILIES}


@pytest.fixture(params=tiny_clip.FAMILIES)
def base(request, bases):
    return bases[request.param]


@pytest.fixture(scope="module")
def clip(bases):
    return start(bases["clip"])


def start(base, shape=SHAPE):
    torch.manual_seed(0)
    return start_video_colbert(str(base), None, shape).eval()


def clip_frames(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8))


def video(model, base, *videos):
    """The vectors of each level that are there, by video."""
    pixels = Preparation.of(str(base), None, 12).pixels([frame for frames in videos for frame in frames])
    counts = torch.tensor([len(frames) for frames in videos])
    with torch.no_grad():
        levels = model.videos(pixels, counts)
    masks = model.masks(counts)
    return [[level[i][mask[i]] for level, mask in zip(levels, masks, strict=True)] for i in range(len(videos))]


def scores(model, base, text, frames):
    """MMS_F and MMS_V."""
    with torch.no_grad():
        query = model.queries(Preparation.of(str(base), None, 12).ids([text]))
    (levels,) = video(model, base, frames)
    return [float(mean_max_sim(query, x[None], torch.ones(1, len(x), dtype=torch.bool))) for x in levels]


def test_every_vector_is_of_unit_length_in_one_space(base):
    model = start(base)
    with torch.no_grad():
        query = model.queries(Preparation.of(str(base), None, 12).ids(TEXTS))
    (frames, mixed) = video(model, base, clip_frames(3))[0]

    assert query.shape == (2, 12, tiny_clip.DIMS)
    assert (frames.shape, mixed.shape) == ((3, tiny_clip.DIMS), (3 + 2, tiny_clip.DIMS))
    for vectors in (query, frames, mixed):
        torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(vectors.shape[:-1]))


def test_one_token_and_one_frame_are_the_models_own_features(base):
    """The last token of SigLIP, and the end of the text of CLIP, are what their own pooling takes."""
    model, preparation = start(base), Preparation.of(str(base), None, tiny_clip.POSITIONS)
    ids, pixels = preparation.ids(TEXTS[:1]), preparation.pixels(clip_frames(1))
    with torch.no_grad():
        text = model.backbone.get_text_features(input_ids=ids).pooler_output
        image = model.backbone.get_image_features(**pixels).pooler_output
        tokens = start(base, Shape(frames=4, query_tokens=16, heads=4)).queries(ids)[0]
    place = -1 if "siglip" in type(model.backbone).__name__.lower() else int((ids[0] == 3).int().argmax())

    torch.testing.assert_close(tokens[place], torch.nn.functional.normalize(text[0], dim=-1), atol=1e-5, rtol=0)
    shown = video(model, base, clip_frames(1))[0][0][0]
    torch.testing.assert_close(shown, torch.nn.functional.normalize(image[0], dim=-1), atol=1e-5, rtol=0)


def test_padding_expands_a_query(clip, bases):
    """Pad tokens have vectors that differ by place and by query: they are seen, and see."""
    with torch.no_grad():
        one, two = clip.queries(Preparation.of(str(bases["clip"]), None, 12).ids(["a red ball", "a blue cube"]))

    pads_of_one, pads_of_two = one[5:], two[5:]  # after <bos> a red ball <eos>
    assert (pads_of_one[:-1] - pads_of_one[1:]).abs().amax(-1).min() > 1e-3
    assert (pads_of_one - pads_of_two).abs().amax(-1).min() > 1e-3


def test_a_longer_query_is_cut_to_its_tokens(clip, bases):
    ids = Preparation.of(str(bases["clip"]), None, 12).ids(["a red ball moves left " * 5])

    assert ids.shape == (1, 12)
    assert ids[0, -1] == 3  # its end is kept


def test_company_and_the_padding_that_it_needs_change_no_vector(base):
    model = start(base)
    short, long = clip_frames(2), clip_frames(4, seed=1)

    together = video(model, base, short, long)

    for level, alone in zip(together[0], video(model, base, short)[0], strict=True):
        torch.testing.assert_close(level, alone, atol=1e-5, rtol=0)


def test_room_for_more_frames_changes_no_vector(bases):
    small, large = start(bases["clip"]), start(bases["clip"], Shape(frames=9, query_tokens=12, layers=2, heads=4))
    weights = small.state_dict()
    weights["temporal.position"] = torch.cat([weights["temporal.position"], torch.randn(5, tiny_clip.DIMS)])
    large.load_state_dict(weights)
    frames = clip_frames(3)

    for level, same in zip(*(video(m, bases["clip"], frames)[0] for m in (small, large)), strict=True):
        torch.testing.assert_close(level, same, atol=1e-5, rtol=0)


def test_the_order_of_frames_matters_to_the_video_level_alone(clip, bases):
    frames = clip_frames(4)

    forwards, backwards = (scores(clip, bases["clip"], TEXTS[0], f) for f in (frames, frames[::-1]))

    assert backwards[0] == pytest.approx(forwards[0], abs=1e-6)
    assert abs(backwards[1] - forwards[1]) > 1e-4


def test_without_positions_no_level_knows_the_order(bases):
    model = start(bases["clip"])
    torch.nn.init.zeros_(model.temporal.position)
    frames = clip_frames(4)

    forwards, backwards = (scores(model, bases["clip"], TEXTS[0], f) for f in (frames, frames[::-1]))

    assert backwards == pytest.approx(forwards, abs=1e-5)


def test_expansion_tokens_hear_the_frames(clip, bases):
    one, other = (video(clip, bases["clip"], clip_frames(3, seed))[0][1][-2:] for seed in (0, 1))

    assert (one - other).abs().amax(-1).min() > 1e-3
    assert (one[0] - one[1]).abs().max() > 1e-3


def test_at_first_the_video_level_is_near_the_frames(bases):
    model = start(bases["clip"], Shape(frames=4, query_tokens=12))
    still, mixed = video(model, bases["clip"], clip_frames(4))[0]

    assert (still * mixed[:4]).sum(-1).min() > 0.5


@pytest.mark.parametrize("level", ["frames", "video"])
def test_each_level_can_stand_alone(level, bases):
    both = start(bases["clip"])
    alone = start(bases["clip"], Shape(frames=4, query_tokens=12, layers=2, heads=4, levels=(level,)))

    (found,) = video(alone, bases["clip"], clip_frames(3))[0]

    assert (alone.temporal is None) == (level == "frames")
    expected = video(both, bases["clip"], clip_frames(3))[0][("frames", "video").index(level)]
    torch.testing.assert_close(found, expected)


def test_scale_and_bias_start_as_the_backbone_has_learnt_them(base):
    model = start(base)

    found = model.scale.item(), model.bias.item()

    assert found == pytest.approx((np.log(10), -10.0) if base.name == "clip" else (4.77, -12.93))
    names = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert names == {"backbone.logit_scale"} | ({"backbone.logit_bias"} if base.name != "clip" else set())


def test_every_weight_that_is_trained_has_a_gradient_from_one_call(base):
    """What devices that train together need, and a sign that nothing is left out."""
    model, preparation = start(base), Preparation.of(str(base), None, 12)
    found = model(preparation.ids(TEXTS), preparation.pixels(clip_frames(3)), torch.tensor([2, 1]))

    sum((tensor * torch.randn_like(tensor)).sum() for tensor in (found.query, *found.levels, found.logit)).backward()

    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_a_saved_model_is_loaded_number_by_number_and_its_parts_by_transformers(base, tmp_path):
    model = start(base)
    model.save(tmp_path)
    for part in (AutoTokenizer, AutoImageProcessor):
        part.from_pretrained(base).save_pretrained(tmp_path)

    again, written = load_encoder(tmp_path, "cpu"), load_file(tmp_path / "model.safetensors")

    assert all(torch.equal(model.state_dict()[name], value) for name, value in written.items())
    for level, same in zip(video(model, base, clip_frames(3))[0], again.video(clip_frames(3)), strict=True):
        np.testing.assert_allclose(same, level, atol=1e-6)
    assert type(AutoModel.from_config(AutoConfig.from_pretrained(tmp_path))) is type(model.backbone)
    first, second = (AutoTokenizer.from_pretrained(folder)(TEXTS).input_ids for folder in (base, tmp_path))
    assert first == second
    assert first[0] != first[1]


def test_the_content_hash_knows_weights_and_settings_but_not_the_place(clip, bases, tmp_path):
    for name in ("a/model", "b"):
        clip.save(tmp_path / name)
    same = content_hash(tmp_path / "a"), content_hash(tmp_path / "b")
    weights = load_file(tmp_path / "b" / "model.safetensors")
    weights["bias"] += 1
    save_file(weights, tmp_path / "b" / "model.safetensors")

    assert same[0] == same[1]
    assert content_hash(tmp_path / "b") != same[0]


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        (Shape(heads=5, query_tokens=12), "heads must divide the model's 32 dimensions, got 5"),
        (Shape(heads=4, query_tokens=77), "query_tokens must be at most the model's 16, got 77"),
    ],
)
def test_a_shape_that_does_not_fit_the_model_is_refused(shape, says, bases):
    with pytest.raises(RetrieverError, match=says):
        start_video_colbert(str(bases["clip"]), None, shape)


def test_other_models_and_folders_are_refused_in_one_line(clip, bases, tmp_path):
    from tests.support import tiny_vlm

    with pytest.raises(RetrieverError, match="is no CLIP, SigLIP or SigLIP 2"):
        start_video_colbert(str(tiny_vlm.build(tmp_path / "vlm", texts=TEXTS)), None, SHAPE)
    with pytest.raises(RetrieverError, match="cannot be loaded"):
        start_video_colbert(str(tmp_path / "nowhere"), None, SHAPE)
    with pytest.raises(RetrieverError, match="holds no Video-ColBERT"):
        load_encoder(bases["clip"])
    clip.save(tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").write_bytes(b"")
    with pytest.raises(RetrieverError, match=r"model\.safetensors cannot be loaded"):
        load_video_colbert(tmp_path / "cut")
