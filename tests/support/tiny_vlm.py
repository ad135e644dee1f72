"""Tiny vision-language models with random weights, their tokenizers and processors, made on the spot in seconds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

CONTROL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
WORDS = ("yes", "no", "answer", "think", "seconds", "system user assistant", "video", "Query")
PIXELS = 32
"""The side of the frames that these models are made for; their patches of 8 pixels are merged two by two."""

# How each family writes a video into its prompt, in the form of its published chat template.
_VIDEO = {
    "qwen3_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "qwen2_5_vl": "<|vision_start|><|video_pad|><|vision_end|>",
    "llava_onevision": "<video>\n",
}
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'video' %}VIDEO{% elif c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(folder: Path, family: str = "qwen3_vl", texts: Iterable[str] = (), *, seed: int = 0, **sizes: Any) -> Path:
    """Write a model, tokenizer and processor that the Auto classes load, and return ``folder``.

    ``texts`` are what the tokenizer learns its words from; ``sizes`` are as in ``_sizes``.
    """
    torch.manual_seed(seed)
    model, processor = FAMILIES[family](_tokenizer(family, tuple(texts)), _sizes(**sizes))
    processor.chat_template = _TEMPLATE.replace("VIDEO", _VIDEO[family])
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _sizes(
    hidden: int = 64, layers: int = 2, heads: int = 4, vision: int = 48, vision_layers: int = 2, init: float = 0.07
) -> dict[str, Any]:
    # init: 0.02, the usual one, is too small for a model that is this narrow to learn in a few hundred steps.
    return {
        "text": {
            "hidden_size": hidden,
            "intermediate_size": hidden * 5 // 2,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads // 2,
            "max_position_embeddings": 4096,
            "initializer_range": init,
        },
        "vision": {"hidden_size": vision, "intermediate_size": vision * 3, "initializer_range": init},
        "vision_layers": vision_layers,
        "head": hidden // heads,
    }


@cache
def _tokenizer(family: str, texts: tuple[str, ...]) -> Any:
    extra = ("<image>", "<video>") if family == "llava_onevision" else ()
    return bpe_tokenizer(texts, (*CONTROL[1:], *extra))


def bpe_tokenizer(texts: tuple[str, ...], special: tuple[str, ...]) -> Any:
    """Byte-level BPE with the pre-tokenizer of Qwen2, learned from ``texts``, with these special tokens."""
    base = transformers.Qwen2Tokenizer()._tokenizer
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.pre_tokenizer, bpe.decoder = base.normalizer, base.pre_tokenizer, base.decoder
    trainer = trainers.BpeTrainer(
        vocab_size=400, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    # Tags are left out: learned as part of a word, ">yes" would be one token, as ">No" is for Qwen.
    bpe.train_from_iterator([*(re.sub(r"[<>/]+", " ", text) for text in texts), *WORDS * 200], trainer)
    learned = json.loads(bpe.to_str())["model"]
    return transformers.Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(merge) for merge in learned["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(special),
        padding_side="left",
        model_max_length=4096,
    )


def _qwen_ids(tokenizer: Any) -> dict[str, int]:
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in names.items()}


def _qwen_text(tokenizer: Any, sizes: dict[str, Any], **rope: Any) -> dict[str, Any]:
    third = sizes["head"] // 6
    sections = [sizes["head"] // 2 - 2 * third, third, third]
    return sizes["text"] | {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections} | rope,
    }


def _qwen3_vl(tokenizer: Any, sizes: dict[str, Any]) -> tuple[Any, Any]:
    config = transformers.Qwen3VLConfig(
        text_config=_qwen_text(tokenizer, sizes, mrope_interleaved=True)
        | {"head_dim": sizes["head"], "tie_word_embeddings": True},
        vision_config=sizes["vision"]
        | {
            "depth": sizes["vision_layers"],
            "num_heads": 4,
            "patch_size": 8,
            "temporal_patch_size": 2,
            "spatial_merge_size": 2,
            "out_hidden_size": sizes["text"]["hidden_size"],
            "num_position_embeddings": (PIXELS // 8 * 2) ** 2,
            "deepstack_visual_indexes": [0],
        },
        tie_word_embeddings=True,
        **_qwen_ids(tokenizer),
    )
    grid = {"patch_size": 8, "temporal_patch_size": 2, "merge_size": 2}
    image = transformers.Qwen2VLImageProcessor(**grid, size={"shortest_edge": 256, "longest_edge": PIXELS**2})
    video = transformers.Qwen3VLVideoProcessor(
        **grid,
        do_sample_frames=False,
        cap_pixels_per_frame=False,
        size={"shortest_edge": 256, "longest_edge": 32 * PIXELS**2},
    )
    processor = transformers.Qwen3VLProcessor(image_processor=image, tokenizer=tokenizer, video_processor=video)
    return transformers.Qwen3VLForConditionalGeneration(config), processor


def _qwen2_5_vl(tokenizer: Any, sizes: dict[str, Any]) -> tuple[Any, Any]:
    config = transformers.Qwen2_5_VLConfig(
        text_config=_qwen_text(tokenizer, sizes),
        vision_config=sizes["vision"]
        | {
            "depth": sizes["vision_layers"],
            "num_heads": 4,
            "patch_size": 8,
            "spatial_merge_size": 2,
            "out_hidden_size": sizes["text"]["hidden_size"],
            "fullatt_block_indexes": [sizes["vision_layers"] - 1],
            "window_size": 32,
        },
        **_qwen_ids(tokenizer),
    )
    size = {"shortest_edge": 256, "longest_edge": 32 * PIXELS**2}
    grid = {"patch_size": 8, "merge_size": 2}
    image = transformers.Qwen2VLImageProcessor(**grid, size=size)
    video = transformers.Qwen2VLVideoProcessor(**grid, size=size, do_sample_frames=False)
    processor = transformers.Qwen2_5_VLProcessor(image_processor=image, tokenizer=tokenizer, video_processor=video)
    return transformers.Qwen2_5_VLForConditionalGeneration(config), processor


def _llava_onevision(tokenizer: Any, sizes: dict[str, Any]) -> tuple[Any, Any]:
    config = transformers.LlavaOnevisionConfig(
        text_config=sizes["text"] | {"model_type": "qwen2", "vocab_size": len(tokenizer)},
        vision_config={
            "model_type": "siglip_vision_model",
            "hidden_size": sizes["vision"]["hidden_size"],
            "intermediate_size": sizes["vision"]["intermediate_size"],
            "num_hidden_layers": sizes["vision_layers"],
            "num_attention_heads": 4,
            "image_size": PIXELS,
            "patch_size": 8,
            "vision_use_head": False,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[PIXELS, PIXELS]],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    size = {"height": PIXELS, "width": PIXELS}
    processor = transformers.LlavaOnevisionProcessor(
        image_processor=transformers.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[PIXELS, PIXELS]]),
        tokenizer=tokenizer,
        video_processor=transformers.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=(PIXELS // 8) ** 2,
        vision_feature_select_strategy="full",
    )
    return transformers.LlavaOnevisionForConditionalGeneration(config), processor


FAMILIES: dict[str, Callable[[Any, dict[str, Any]], tuple[Any, Any]]] = {
    "qwen3_vl": _qwen3_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "llava_onevision": _llava_onevision,
}
