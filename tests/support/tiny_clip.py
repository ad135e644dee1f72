"""Tiny CLIP, SigLIP and SigLIP 2 models of random weights, their tokenizers and image processors, made on the spot."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers as T
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

PIXELS, DIMS, POSITIONS = 32, 32, 16
FAMILIES = ("clip", "siglip", "siglip2")
_SPECIAL = ("<unk>", "<pad>", "<bos>", "<eos>")


def build(
    folder: Path,
    family: str = "clip",
    texts: Iterable[str] = (),
    *,
    seed: int = 0,
    layers: int = 1,
    factor: float = 5.0,
) -> Path:
    """Write a model, tokenizer and image processor that the Auto classes load, and return ``folder``.

    ``texts`` are what the tokenizer learns its words from. ``factor`` is by how much a CLIP's random weights are larger
    than usual: so that vectors differ from the start in tests, while 1 is best to learn from.
    """
    torch.manual_seed(seed)
    tokenizer = _pieces(texts) if family == "siglip2" else _words(texts)
    model, images = _FAMILIES[family](len(tokenizer), layers, factor)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    return folder


def _pieces(texts: Iterable[str]) -> T.Siglip2Tokenizer:
    """Pairs of bytes, joined as in Gemma: the one kind that transformers loads beside a SigLIP 2."""
    bpe, gemma = Tokenizer(models.BPE(unk_token="<unk>")), T.Siglip2Tokenizer()._tokenizer
    bpe.normalizer, bpe.pre_tokenizer = gemma.normalizer, gemma.pre_tokenizer
    bpe.train_from_iterator(texts, trainers.BpeTrainer(special_tokens=list(_SPECIAL), show_progress=False))
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    return T.Siglip2Tokenizer(vocab=learned["vocab"], merges=merges, padding_side="right", model_max_length=POSITIONS)


def _words(texts: Iterable[str]) -> T.PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=list(_SPECIAL), show_progress=False))
    words.post_processor = processors.TemplateProcessing("<bos> $A <eos>", special_tokens=[("<bos>", 2), ("<eos>", 3)])
    names = dict(zip(("unk_token", "pad_token", "bos_token", "eos_token"), _SPECIAL, strict=True))
    return T.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=POSITIONS, **names)


def _sizes(words: int, layers: int) -> tuple[dict[str, Any], dict[str, Any]]:
    # 0.02, the usual spread of weights, is too small for a model that is this narrow to learn in a few hundred steps
    small = {
        "hidden_size": DIMS,
        "intermediate_size": 2 * DIMS,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "initializer_range": 0.1,
    }
    text = small | {
        "vocab_size": words,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": 1,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    return text, small | {"patch_size": 8}


def _clip(words: int, layers: int, factor: float) -> tuple[Any, Any]:
    text, vision = _sizes(words, layers)
    config = T.CLIPConfig(
        text_config=text, vision_config=vision | {"image_size": PIXELS}, projection_dim=DIMS, initializer_factor=factor
    )
    size = {"size": {"shortest_edge": PIXELS}, "crop_size": {"height": PIXELS, "width": PIXELS}}
    return T.CLIPModel(config), T.CLIPImageProcessor(**size)


def _siglip(words: int, layers: int, _: float) -> tuple[Any, Any]:
    text, vision = _sizes(words, layers)
    config = T.SiglipConfig(text_config=text | {"projection_size": DIMS}, vision_config=vision | {"image_size": PIXELS})
    model = T.SiglipModel(config)
    _as_learnt(model)
    return model, T.SiglipImageProcessor(size={"height": PIXELS, "width": PIXELS})


def _siglip2(words: int, layers: int, _: float) -> tuple[Any, Any]:
    text, vision = _sizes(words, layers)
    config = T.Siglip2Config(
        text_config=text | {"projection_size": DIMS}, vision_config=vision | {"num_patches": (PIXELS // 8) ** 2}
    )
    model = T.Siglip2Model(config)
    _as_learnt(model)
    return model, T.Siglip2ImageProcessor(patch_size=8, max_num_patches=(PIXELS // 8) ** 2)


def _as_learnt(model: Any) -> None:
    """The values that SigLIP B/16 has learnt for its loss."""
    with torch.no_grad():
        model.logit_scale.fill_(4.77)
        model.logit_bias.fill_(-12.93)


_FAMILIES = {"clip": _clip, "siglip": _siglip, "siglip2": _siglip2}
