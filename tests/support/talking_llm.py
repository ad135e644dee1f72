"""Language models with random weights that say a given reply by heart, of three families; nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

CONTEXT = 4096
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END = "<|end|>"
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message.role + '|>' + message.content + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
TEXTS = (
    'The tram leaves the depot: "LINE 5" rides free until Sunday. yes no Yes No another notable know',
    "<think>It fits.</think><answer>yes</answer> <think>Not this one.</think><answer>no</answer>",
    "You judge whether a video answers a search query. You are given what is known of it, its evidence.",
)
VERDICT = ("<think>It fits.", "</think>", "<answer>")


def make_talking_llm(
    folder: Path, says: Sequence[str], family: str = "qwen", template: str = TEMPLATE, goes_on: bool = False
) -> Path:
    """Save a model that says ``says`` after any prompt, and then ends; each piece is one token, and occurs once.

    Where it ``goes_on`` instead, what it says is random, and depends on the prompt.
    """
    import torch
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=TOKENIZERS[family](), eos_token=END, pad_token="<|pad|>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(ROLES)})
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in says])
    tokenizer.chat_template = template

    torch.manual_seed(0)
    model = MODELS[family](len(tokenizer), tokenizer.eos_token_id)
    known = model.get_input_embeddings().weight
    head = model.get_output_embeddings().weight
    chain = tokenizer.convert_tokens_to_ids([ROLES[-1], *says, *([] if goes_on else [END])])
    with torch.no_grad():
        known.normal_()
        head.normal_(std=0.3)
        for token, following in pairwise(chain):
            head[following] += 6 * torch.nn.functional.normalize(known[token], dim=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _qwen(vocabulary: int, end: int) -> Any:
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**_sizes(vocabulary, end), head_dim=32))


def _llama(vocabulary: int, end: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_sizes(vocabulary, end)))


def _gpt2(vocabulary: int, end: int) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=vocabulary,
        n_embd=64,
        n_layer=2,
        n_head=2,
        n_positions=CONTEXT,
        eos_token_id=end,
        bos_token_id=end,
        tie_word_embeddings=False,
        initializer_range=0.1,
    )
    return GPT2LMHeadModel(config)


def _sizes(vocabulary: int, end: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "eos_token_id": end,
        "bos_token_id": None,
        "tie_word_embeddings": False,
        "initializer_range": 0.1,
    }


def byte_level(split: str) -> Any:
    """A byte-level BPE that cuts text by the expression ``split`` before it merges."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<|pad|>", END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS * 4, trainer)
    return tokenizer


def sentencepiece() -> Any:
    """A BPE over characters, with "▁" for spaces and one token for each byte, as Llama 2 and Mistral have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", "<|pad|>", END], show_progress=False, max_token_length=6
    )
    tokenizer.train_from_iterator([word for text in TEXTS * 4 for word in text.split()], trainer)
    state = json.loads(tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    for word in ("▁yes", "▁No"):
        vocabulary.setdefault(word, len(vocabulary))
    return Tokenizer.from_str(json.dumps(state))


QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TOKENIZERS = {
    "qwen": lambda: byte_level(QWEN_SPLIT),
    "gpt2": lambda: byte_level(GPT2_SPLIT),
    "sentencepiece": sentencepiece,
}
MODELS = {"qwen": _qwen, "gpt2": _gpt2, "sentencepiece": _llama}
FAMILIES = tuple(MODELS)
