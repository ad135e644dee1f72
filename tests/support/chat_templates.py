"""Tokenizers of several families, trained on the spot, with the control tokens and chat templates of the real ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.support.talking_llm import GPT2_SPLIT, QWEN_SPLIT, byte_level, sentencepiece

_LOOP = "{%- for message in messages %}"
_CHATML = (
    _LOOP + "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif %}{%- endif %}"
)
_LLAMA_3 = (
    "{{- bos_token }}" + _LOOP + "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + "
    "message.content | trim + '<|eot_id|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)
_MISTRAL = (
    "{%- if messages[0].role == 'system' %}{%- set system = messages[0].content + '\\n\\n' %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}{{- bos_token }}" + _LOOP + ""
    "{%- if message.role == 'user' %}"
    "{{- '[INST] ' + (system if loop.last else '') + message.content + '[/INST]' }}"
    "{%- else %}{{- ' ' + message.content + eos_token }}{%- endif %}{%- endfor %}"
)
_GEMMA = (
    "{{- bos_token }}{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{%- endif %}" + _LOOP + "{%- set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{- '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}"
)
_PHI_3 = (
    _LOOP + "{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}"
)
_PHI_4 = (
    _LOOP + "{{- '<|im_start|>' + message.role + '<|im_sep|>' + message.content + '<|im_end|>' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant<|im_sep|>' }}{%- endif %}"
)
_DEEPSEEK = (
    "{{- bos_token }}" + _LOOP + "{%- if message.role == 'system' %}{{- message.content }}"
    "{%- elif message.role == 'user' %}{{- '<｜User｜>' + message.content }}"
    "{%- else %}{{- '<｜Assistant｜>' + message.content.split('</think>')[-1] + '<｜end▁of▁sentence｜>' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\\n' }}{%- endif %}"
)
_HARMONY = (
    "{{- '<|start|>system<|message|>You are ChatGPT.\\n\\n# Valid channels: analysis, commentary, final.<|end|>' }}"
    + _LOOP
    + "{%- if message.role == 'system' %}{{- '<|start|>developer<|message|># Instructions\\n\\n' + message.content "
    "+ '<|end|>' }}"
    "{%- elif message.role == 'user' %}{{- '<|start|>user<|message|>' + message.content + '<|end|>' }}"
    "{%- else %}{{- '<|start|>assistant<|channel|>final<|message|>' + message.content + '<|end|>' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start|>assistant' }}{%- endif %}"
)


@dataclass(frozen=True)
class Family:
    """How one family of models lays out a chat; ``control`` are its special tokens, ``tags`` further added tokens."""

    template: str
    control: tuple[str, ...]
    base: Callable[[], Any]
    bos: str | None = None
    tags: tuple[str, ...] = ()
    folds: bool = False  # to NFKC before it looks for control tokens


_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
_DEEPSEEK_CONTROL = (
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜▁pad▁｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<｜tool▁calls▁begin｜>",
)
FAMILIES = {
    "qwen 3": Family(
        _CHATML,
        ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|image_pad|>"),
        lambda: byte_level(QWEN_SPLIT),
        tags=_TAGS,
    ),
    "chatml that folds": Family(
        _CHATML, ("<|im_start|>", "<|im_end|>"), lambda: byte_level(QWEN_SPLIT), tags=_TAGS, folds=True
    ),
    "llama 3": Family(
        _LLAMA_3,
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>"),
        lambda: byte_level(QWEN_SPLIT),
        bos="<|begin_of_text|>",
    ),
    "mistral": Family(
        _MISTRAL,
        ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[IMG]"),
        sentencepiece,
        bos="<s>",
    ),
    "gemma": Family(
        _GEMMA,
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<unused7>"),
        sentencepiece,
        bos="<bos>",
        tags=("<table>", "<h1>"),
    ),
    "phi 3": Family(
        _PHI_3, ("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"), sentencepiece
    ),
    "phi 4": Family(
        _PHI_4, ("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>"), lambda: byte_level(GPT2_SPLIT)
    ),
    "deepseek": Family(
        _DEEPSEEK,
        _DEEPSEEK_CONTROL,
        lambda: byte_level(GPT2_SPLIT),
        bos="<｜begin▁of▁sentence｜>",
        tags=("<think>", "</think>"),
    ),
    "gpt-oss": Family(
        _HARMONY,
        ("<|start|>", "<|end|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|return|>", "<|call|>"),
        lambda: byte_level(GPT2_SPLIT),
    ),
}


@cache
def tokenizer_of(name: str) -> Any:
    """The tokenizer of a family, with its chat template."""
    from tokenizers import AddedToken, normalizers
    from transformers import PreTrainedTokenizerFast

    family = FAMILIES[name]
    base = family.base()
    if family.folds:
        base.normalizer = normalizers.NFKC()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=base, bos_token=family.bos, eos_token=family.control[1], chat_template=family.template
    )
    for words, special in ((family.control, True), (family.tags, False)):
        tokens = [AddedToken(word, special=special, normalized=family.folds) for word in words]
        tokenizer.add_tokens(tokens, special_tokens=special)
    return tokenizer


def control_ids(name: str) -> set[int]:
    """The ids of a family's control tokens and tags."""
    family = FAMILIES[name]
    return set(tokenizer_of(name).convert_tokens_to_ids([*family.control, *family.tags]))


def chat_of(name: str, system: str, user: str) -> list[dict[str, str]]:
    """The messages of a chat as the family takes them: without a system message where its template refuses one."""
    if "System role not supported" in FAMILIES[name].template:
        return [{"role": "user", "content": f"{system}\n\n{user}"}]
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]
