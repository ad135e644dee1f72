"""A tiny model of Qwen2.5-Omni's kind with random weights, which sees and hears, made on the spot."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers

from tests.support.tiny_vlm import bpe_tokenizer

_NAMES = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% for c in m.content %}"
    "{% if c.type == 'video' %}<|vision_bos|><|VIDEO|><|vision_eos|>"
    "{% elif c.type == 'audio' %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build(folder: Path, texts: tuple[str, ...]) -> Path:
    """Write model, tokenizer and processor of the thinker, as the Auto classes load them, and return ``folder``."""
    torch.manual_seed(0)
    with TemporaryDirectory() as plain:  # a tokenizer learns the names of its special tokens when it is loaded
        bpe_tokenizer(texts, tuple(_NAMES.values())).save_pretrained(plain)
        tokenizer = transformers.Qwen2Tokenizer.from_pretrained(plain, extra_special_tokens=_NAMES)
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in (
            ("audio", "AUDIO"),
            ("image", "IMAGE"),
            ("video", "VIDEO"),
            ("audio_start", "audio_bos"),
            ("audio_end", "audio_eos"),
            ("vision_start", "vision_bos"),
            ("vision_end", "vision_eos"),
        )
    }
    config = transformers.Qwen2_5OmniThinkerConfig(
        text_config=_text(tokenizer), audio_config=_hearing(), vision_config=_sight(), **ids
    )
    size = {"shortest_edge": 256, "longest_edge": 32**3}
    grid = {"patch_size": 8, "merge_size": 2}
    processor = transformers.Qwen2_5OmniProcessor(
        transformers.Qwen2VLImageProcessor(**grid, size=size),
        transformers.Qwen2VLVideoProcessor(**grid, size=size, do_sample_frames=False),
        transformers.WhisperFeatureExtractor(128),
        tokenizer,
        chat_template=_TEMPLATE,
    )
    transformers.Qwen2_5OmniThinkerForConditionalGeneration(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _text(tokenizer: Any) -> dict[str, Any]:
    return {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]},
        "pad_token_id": tokenizer.pad_token_id,
    }


def _hearing() -> dict[str, Any]:
    return {
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "num_mel_bins": 128,
        "output_dim": 64,
    }


def _sight() -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "out_hidden_size": 64,
        "fullatt_block_indexes": [1],
        "window_size": 32,
    }
