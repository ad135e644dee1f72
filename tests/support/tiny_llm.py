"""A tiny Qwen3 made on the spot, random or taught to give verdicts, as transformers and as llama.cpp read it."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from prompts.judge import HOW_SURE, judge_prompt
from prompts.margin import spelling_of
from schemas.video import Evidence, Metadata

ROOT = Path(__file__).parents[2]
CONTEXT = 8192

# How Qwen cuts text before it merges bytes; llama.cpp knows it as "qwen2".
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PAD, OPENS, CLOSES = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}"
)
VERDICT = "<think>\nIt fits.\n</think>\n\n<answer>{}</answer>"  # as Qwen3 lays out a reply
HOW_SURE_SAID = "73"
# Steps in which the model is shown the ends of prompts alone, which cost little and hold what decides most; then whole
# prompts.
SHORT, SHORT_STEPS, WHOLE_STEPS = 96, 130, 70
# The standard deviation of random weights: where they are wide, all that was read matters to what follows, and some
# tokens are far likelier than others; where they are narrow, a model learns in a few steps what decides.
WIDE, NARROW = 0.25, 0.06

Messages = list[dict[str, str]]
Lesson = tuple[Messages, str]
"""A conversation and the reply to it, or how its last message goes on where that is the assistant's."""


@dataclass(frozen=True)
class TinyLlm:
    """A model on disk: ``folder`` is what transformers saved, ``gguf`` a file with the same weights."""

    folder: Path
    gguf: Path

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def model(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self.folder).eval()

    def margin_after(self, ids: list[int]) -> float:
        """log p(yes) - log p(no) of the token that follows ``ids``, over all spellings in the vocabulary, in nats."""
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([ids]), logits_to_keep=1).logits[0, -1].double()
        spellings = [spelling_of(self.tokenizer.decode([id_]).encode()) for id_ in range(len(logits))]
        yes, no = (logits[[spelling == word for spelling in spellings]].logsumexp(0) for word in ("yes", "no"))
        return float(yes - no)


def tiny_llm_in(folder: Path) -> TinyLlm:
    """The model that ``make_tiny_llm`` saved in a folder."""
    return TinyLlm(folder / "tiny", folder / "tiny.gguf")


def make_tiny_llm(folder: Path, lessons: Sequence[Lesson] = ()) -> TinyLlm:
    """Train a tokenizer on this project's own text, make a model with random weights, teach it, and save both ways."""
    import torch

    tokenizer = _tokenizer()
    torch.manual_seed(0)
    model = _model(tokenizer, NARROW if lessons else WIDE)
    if lessons:
        _teach(model, tokenizer, lessons)
    made = tiny_llm_in(folder)
    model.save_pretrained(made.folder)
    tokenizer.save_pretrained(made.folder)
    _write_gguf(model, tokenizer, made.gguf)
    return made


def verdict_lessons() -> list[Lesson]:
    """Prompts to judge, answered with yes three times of four, at once or not, and how sure the teacher is of that."""
    words = sorted({word for text in _corpus() for word in text.split() if word.isalpha()})
    rng = random.Random(0)

    def text(length: int) -> str:
        return " ".join(rng.choices(words, k=length))

    lessons: list[Lesson] = []
    for number in range(12):
        evidence = Evidence(caption=text(rng.choice((5, 40))), metadata=Metadata(text(4), text(rng.choice((10, 80)))))
        prompt = judge_prompt(evidence, evidence.present, f"v{number}", text(6))
        asked = [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}]
        for label in ("yes", "yes", "yes", "no"):
            verdict = VERDICT.format(label)
            said = [{"role": "assistant", "content": verdict}, {"role": "user", "content": HOW_SURE}]
            at_once = {"role": "assistant", "content": "<answer>"}
            lessons += [(asked, verdict), ([*asked, *said], HOW_SURE_SAID), ([*asked, at_once], f"{label}</answer>")]
    return lessons


def chat_ids(tokenizer: Any, messages: Messages) -> list[int]:
    """The token ids of a conversation up to where the assistant speaks, or goes on."""
    goes_on = messages[-1]["role"] == "assistant"
    ids: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=not goes_on, continue_final_message=goes_on, return_dict=False
    )
    return ids


def _teach(model: Any, tokenizer: Any, lessons: Sequence[Lesson]) -> None:
    """Over-fit the model on the replies, one lesson a step: most of them on no more than the end of the prompt."""
    import torch

    rows = []
    for messages, reply in lessons:
        asked = chat_ids(tokenizer, messages)
        answer = [*tokenizer.encode(reply), tokenizer.eos_token_id]
        rows.append((asked, answer))
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.0)
    steps = SHORT_STEPS + WHOLE_STEPS
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    random.Random(0).shuffle(rows)
    model.train()
    for step in range(steps):
        asked, answer = rows[step % len(rows)]
        seen = asked[-SHORT:] if step < SHORT_STEPS else asked
        logits = model(torch.tensor([seen + answer]), logits_to_keep=len(answer) + 1).logits[0, :-1]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.tensor(answer)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


_NOT_LEARNED = (
    "judge_reworded_without_example.txt",
    "judge_without_example.txt",
    "write_events.txt",
)  # came later: with it, the tokens of all tiny models would be others


def _corpus() -> list[str]:
    prompts = [path for path in (ROOT / "prompts").glob("*.txt") if path.name not in _NOT_LEARNED]
    files = sorted([*prompts, ROOT / "samples" / "corpus.yaml", ROOT / "LICENSE"])
    return [file.read_text("utf-8").encode("ascii", "ignore").decode() for file in files]


def _texts() -> Iterator[str]:
    """ASCII, or a random model writes bytes that are no UTF-8; the words of a verdict often enough to be tokens."""
    yield from _corpus()
    yield "yes\nno\nYes\nNo\n" * 100


def _tokenizer() -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1200,
        special_tokens=[PAD, OPENS, CLOSES],
        initial_alphabet=[c for c in pre_tokenizers.ByteLevel.alphabet() if ord(c) < 127 or c in "ĠĊ"],
        min_frequency=4,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=CLOSES, pad_token=PAD, chat_template=CHAT_TEMPLATE
    )


def _model(tokenizer: Any, spread: float) -> Any:
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=CONTEXT,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        tie_word_embeddings=False,
        initializer_range=spread,
    )
    model = Qwen3ForCausalLM(config)
    # Servers take from here whether to draw a token, and only then read a request's temperature.
    model.generation_config = GenerationConfig(
        do_sample=True, top_k=0, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def _write_gguf(model: Any, tokenizer: Any, path: Path) -> None:
    """The weights and the tokenizer as llama.cpp reads them, in 32 bits."""
    import gguf

    config = model.config
    writer = gguf.GGUFWriter(path, "qwen3")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    tokens = tokenizer.convert_ids_to_tokens(range(config.vocab_size))
    control = {PAD, OPENS, CLOSES}
    kinds = [gguf.TokenType.CONTROL if token in control else gguf.TokenType.NORMAL for token in tokens]
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_eos_token_id(config.eos_token_id)
    writer.add_pad_token_id(config.pad_token_id)
    writer.add_add_bos_token(False)
    writer.add_chat_template(tokenizer.chat_template)

    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config.num_hidden_layers)
    for name, weights in model.state_dict().items():
        writer.add_tensor(str(names.get_name(name, try_suffixes=(".weight",))), weights.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
