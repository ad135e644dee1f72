"""Published embedders by name: how each wants to be called, as its authors do it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.configuration.section import did_you_mean
from transforms.protocols.engine import EngineError

_QWEN = "Represent the user's input."  # the default of its own script, on both sides
_END = "<|endoftext|>"  # the token whose vector is taken
_SO_FEW = 32  # frames of models that see each alone: more change their mean little

# What is given is the weights' own name on the hub; its commit is left to whoever knows which they have. How each is
# called was read from its authors' code and cards; tests call models of the same families with random weights.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    **{
        f"qwen3-vl-embedding-{size.lower()}": {
            "engine": "sentence_transformers",
            "model": f"Qwen/Qwen3-VL-Embedding-{size}",
            "reads": "frames",
            "query_prompt": _QWEN,
            "document_prompt": _QWEN,
            "frames": 64,
            "pooling": "lasttoken",
            "generation_prompt": True,
        }
        for size in ("2B", "8B")
    },
    # Its own modules take no video; without them transformers' own class reads the frames as one.
    **{
        f"gme-qwen2-vl-{size.lower()}": {
            "engine": "sentence_transformers",
            "model": f"Alibaba-NLP/gme-Qwen2-VL-{size}-Instruct",
            "reads": "frames",
            "query_prompt": "Find a video that matches the given text.",
            "document_prompt": "You are a helpful assistant.",
            "frames": 16,
            "pooling": "lasttoken",
            "generation_prompt": True,
            "ending": _END,
            "own_modules": False,
        }
        for size in ("2B", "7B")
    },
    # LoRA on the thinker of Qwen2.5-Omni-7B: where the weights are an adapter's alone, give the folder that it was
    # merged into. Its authors let pictures and sound alternate in time; here one follows the other.
    **{
        name: {
            "engine": "sentence_transformers",
            "model": f"Tevatron/{model}",
            "reads": "frames",
            "query_prompt": "Query: ",
            "document_prompt": "",
            "prompts_in": "text",
            "frames": 64,
            "sound_s": 300.0,
            "pooling": "lasttoken",
            "generation_prompt": True,
            "ending": _END,
        }
        for name, model in (
            ("omniembed", "OmniEmbed-v0.1"),
            ("omniembed-multivent", "OmniEmbed-v0.1-multivent"),
        )
    },
    # Its prefixes are in its own configuration.
    "omni-embed-nemotron-3b": {
        "engine": "sentence_transformers",
        "model": "nvidia/omni-embed-nemotron-3b",
        "reads": "frames",
        "frames": 64,
        "sound_s": 128.0,
        "trust_remote_code": True,
        "licence": "its licence allows no commercial use",
    },
    "multilingual-e5-large": {
        "engine": "sentence_transformers",
        "model": "intfloat/multilingual-e5-large",
        "query_prompt": "query: ",
        "document_prompt": "passage: ",
    },
    "clip-vit-large": {"engine": "dual_encoder", "model": "openai/clip-vit-large-patch14", "frames": _SO_FEW},
    "siglip-so400m": {"engine": "dual_encoder", "model": "google/siglip-so400m-patch14-384", "frames": _SO_FEW},
    "siglip2-so400m": {"engine": "dual_encoder", "model": "google/siglip2-so400m-patch14-384", "frames": _SO_FEW},
}


def with_preset(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an embedder with those of its ``preset`` where it says nothing else.

    Raises:
        EngineError: there is no such preset, or it is one of another engine.
    """
    given = {key: value for key, value in options.items() if key != "preset"}
    name = options.get("preset")
    if name is None:
        return given
    if name not in PRESETS:
        raise EngineError(f"embed preset {name!r} is not known{did_you_mean(str(name), PRESETS)}")
    preset = PRESETS[name]
    if given.get("engine", preset["engine"]) != preset["engine"]:
        raise EngineError(f"embed preset {name!r} is one of the engine {preset['engine']}, not of {given['engine']}")
    return {**preset, **given}
