"""Whisper's weights by OpenAI's names and by CTranslate2's, which stacks projections that read the same: both ways."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, NDArray[np.generic]]
_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def stacks(encoder_layers: int, decoder_layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each of CTranslate2's names, and OpenAI's of the weights that stand in it one below the other."""
    for conv in ("conv1", "conv2"):
        yield from ((f"encoder/{conv}/{part}", (f"encoder.{conv}.{part}",)) for part in ("weight", "bias"))
    yield "encoder/position_encodings/encodings", ("encoder.positional_embedding",)
    yield "decoder/position_encodings/encodings", ("decoder.positional_embedding",)
    yield "decoder/embeddings/weight", ("decoder.token_embedding.weight",)
    yield from _norm("encoder/layer_norm", "encoder.ln_post")
    yield from _norm("decoder/layer_norm", "decoder.ln")
    for side, layers in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        for layer in range(layers):
            yield from _layer(f"{side}/layer_{layer}", f"{side}.blocks.{layer}", with_cross=side == "decoder")


def _layer(theirs: str, ours: str, with_cross: bool) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield from _norm(f"{theirs}/self_attention/layer_norm", f"{ours}.attn_ln")
    together = (f"{ours}.attn.{part}" for part in ("query", "key", "value"))
    yield from _linear(f"{theirs}/self_attention/linear_0", *together)
    yield from _linear(f"{theirs}/self_attention/linear_1", f"{ours}.attn.out")
    if with_cross:
        yield from _norm(f"{theirs}/attention/layer_norm", f"{ours}.cross_attn_ln")
        yield from _linear(f"{theirs}/attention/linear_0", f"{ours}.cross_attn.query")
        yield from _linear(f"{theirs}/attention/linear_1", *(f"{ours}.cross_attn.{part}" for part in ("key", "value")))
        yield from _linear(f"{theirs}/attention/linear_2", f"{ours}.cross_attn.out")
    yield from _norm(f"{theirs}/ffn/layer_norm", f"{ours}.mlp_ln")
    yield from _linear(f"{theirs}/ffn/linear_0", f"{ours}.mlp.0")
    yield from _linear(f"{theirs}/ffn/linear_1", f"{ours}.mlp.2")


def _norm(theirs: str, ours: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{theirs}/gamma", (f"{ours}.weight",)
    yield f"{theirs}/beta", (f"{ours}.bias",)


def _linear(theirs: str, *ours: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield f"{theirs}/weight", tuple(f"{name}.weight" for name in ours)
    yield f"{theirs}/bias", tuple(f"{name}.bias" for name in ours)


def _has_none(name: str) -> bool:
    return name.endswith(".key.bias")  # Whisper's keys have no bias; CTranslate2 keeps zeros


def to_ctranslate2(weights: Mapping[str, NDArray[np.generic]]) -> Weights:
    """OpenAI's weights by CTranslate2's names."""
    stacked = {}
    for theirs, ours in stacks(_layers(weights, "encoder.blocks."), _layers(weights, "decoder.blocks.")):
        like = weights[ours[-1]]
        stacked[theirs] = np.concatenate([np.zeros_like(like) if _has_none(name) else weights[name] for name in ours])
    return stacked


def to_openai(variables: Mapping[str, NDArray[np.generic]]) -> Weights:
    """The reverse of ``to_ctranslate2``."""
    split: Weights = {}
    for theirs, ours in stacks(_layers(variables, "encoder/layer_"), _layers(variables, "decoder/layer_")):
        parts = dict(zip(ours, np.split(variables[theirs], len(ours)), strict=True))
        split |= {name: part for name, part in parts.items() if not _has_none(name)}
    return split


def _layers(names: Mapping[str, object], before: str) -> int:
    """How many layers are numbered after ``before``."""
    return len({found[1] for name in names if (found := re.match(rf"{re.escape(before)}(\d+)", name))})


def read_ctranslate2(path: Path) -> Weights:
    """The variables of a CTranslate2 model.bin, which must not be quantised."""
    data = memoryview(path.read_bytes())
    at = 0

    def take(kind: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{kind}", data, at)
        at += struct.calcsize(f"<{kind}")
        return int(value)

    def name() -> str:
        nonlocal at
        size = take("H")  # with a zero at the end
        text = bytes(data[at : at + size - 1]).decode()
        at += size
        return text

    take("I"), name(), take("I")  # version of the format, kind of model, its revision
    found: Weights = {}
    for _ in range(take("I")):
        key, rank = name(), take("B")
        shape = [take("I") for _ in range(rank)]
        dtype, size = _DTYPES[take("B")], take("I")
        found[key] = np.frombuffer(data[at : at + size], dtype).reshape(shape)
        at += size
    for _ in range(take("I")):  # what is the same is kept once
        alias, key = name(), name()
        found[alias] = found[key]
    return found
