"""A causal language model of transformers in this process: chats in, tokens and probabilities out, many at a time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from transforms.engines.local.answer_words import AnswerWords, Logprobs
from transforms.protocols.engine import EngineError
from transforms.workers.batcher import Stopped

Messages = Sequence[Mapping[str, str]]

# Tags that our own prompts ask for. Many tokenizers have a token for them, which is to stay one: no text that others
# wrote can hold it (see prompts.evidence).
_OWN_TAGS = ("<think>", "</think>", "<answer>", "</answer>")


@dataclass(frozen=True, slots=True)
class Row:
    """One text to write: what comes before it, and how its tokens are drawn (temperature 0: the likeliest).

    ``is_whole`` says of the text so far that no more is wanted.
    """

    prompt: Sequence[int]
    seed: int
    temperature: float
    is_whole: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """The tokens that a model wrote; ``ended`` says that it ended the text itself."""

    tokens: list[int]
    ended: bool


@cache
def language_model(model: str, revision: str, device: str, dtype: str) -> LanguageModel:
    """The model, loaded on first use and kept, whichever engines of this process use it.

    Raises:
        EngineError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, revision=revision)
        weights = AutoModelForCausalLM.from_pretrained(model, revision=revision, dtype=dtype)
        return LanguageModel(tokenizer, weights.to(device).eval())
    except Exception as error:  # on a broken file, tokenizers raises just that
        reason = str(error).strip().partition("\n")[0]
        raise EngineError(f"engine 'transformers': model {model!r} cannot be loaded on {device}: {reason}") from error


class LanguageModel:
    """A model and its tokenizer; safe to call from threads, of which one at a time computes."""

    def __init__(self, tokenizer: Any, model: Any) -> None:
        from transformers import GenerationConfig

        if not tokenizer.chat_template:
            raise ValueError("its tokenizer has no chat template; take an instruction-tuned model")
        mark_control_tokens(tokenizer)
        self._tokenizer, self._model = tokenizer, model
        self._tokenizing, self._computing = threading.Lock(), threading.Lock()
        self._pieces = _pieces(tokenizer)
        self.words = AnswerWords(self._pieces)
        self.context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        """The most tokens of a prompt and what is written after it."""

        shipped = model.generation_config.eos_token_id
        self._ends = {*(shipped if isinstance(shipped, list) else [shipped]), tokenizer.eos_token_id} - {None}
        if not self._ends:
            raise ValueError("it names no token that ends a text (eos_token)")
        self._pad = min(self._ends) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        # Of what the model ships for generation, such as penalties, no more is used than which tokens end a text.
        model.generation_config = GenerationConfig(eos_token_id=sorted(self._ends), pad_token_id=self._pad)
        self._takes_system = self._renders([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])

    def render(self, messages: Messages, template: Mapping[str, object]) -> list[int]:
        """The prompt that asks for the next message, by the model's chat template with the variables ``template``.

        Control tokens that stand in a message become ordinary text. Where the template knows no system message, it is
        put before the first message of the user.
        """
        if not self._takes_system and messages[0]["role"] == "system":
            both = f"{messages[0]['content']}\n\n{messages[1]['content']}"
            messages = [{**messages[1], "content": both}, *messages[2:]]
        with self._tokenizing:  # a tokenizer refuses to be used by two threads
            tokens: list[int] = self._tokenizer.apply_chat_template(
                list(messages),
                add_generation_prompt=True,
                sanitize_control_tokens=True,
                return_dict=False,
                **template,
            )
        return tokens

    def encode(self, text: str) -> list[int]:
        """The tokens of a text of the model's own; tags in it are tokens where the vocabulary has them."""
        with self._tokenizing:
            tokens: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, control tokens included."""
        with self._tokenizing:
            text: str = self._tokenizer.decode(list(tokens), clean_up_tokenization_spaces=False)
        return text

    def write(self, rows: Sequence[Row], max_new_tokens: int, stopped: Stopped = lambda: False) -> list[Written]:
        """What the model writes in each row, up to its end, or until it ``is_whole``, or ``max_new_tokens`` are there.

        Each row draws by random numbers of its own: but for rounding, it does not depend on the others. All are cut off
        as soon as ``stopped`` says so.
        """
        watch = _Watch(rows, self._pieces, stopped)
        written = self._generate([row.prompt for row in rows], max_new_tokens, [_Draw(rows)], [watch])
        width = max(len(row.prompt) for row in rows)
        return [self._up_to_end(tokens) for tokens in written.sequences[:, width:].tolist()]

    def next_logprobs(self, prompts: Sequence[Sequence[int]]) -> Logprobs:
        """The log-probabilities of the token that follows each prompt, [prompts, vocabulary], in 64 bits."""
        import torch

        if not prompts:
            return np.empty((0, len(self._pieces)))
        written = self._generate(prompts, 1, [], [], output_logits=True)  # computes logits of last positions only
        logprobs: Logprobs = torch.log_softmax(written.logits[0].cpu().double(), dim=-1).numpy()
        return logprobs

    def _generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, draw: list[Any], stop: list[Any], **outputs: bool
    ) -> Any:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        ids = torch.tensor([[self._pad] * n + list(prompt) for n, prompt in zip(padding, prompts, strict=True)])
        mask = torch.tensor([[0] * n + [1] * (width - n) for n in padding])
        with self._computing, torch.inference_mode():
            return self._model.generate(
                input_ids=ids.to(self._model.device),
                attention_mask=mask.to(self._model.device),
                max_new_tokens=max_new_tokens,
                logits_processor=LogitsProcessorList(draw),
                stopping_criteria=StoppingCriteriaList(stop),
                return_dict_in_generate=True,
                **outputs,
            )

    def _up_to_end(self, tokens: list[int]) -> Written:
        end = next((place for place, token in enumerate(tokens) if token in self._ends), None)
        if end is not None:
            return Written(tokens[:end], ended=True)
        while tokens and tokens[-1] == self._pad:  # while others of its batch were still being written
            tokens.pop()
        return Written(tokens, ended=False)

    def _renders(self, messages: Messages) -> bool:
        from jinja2 import TemplateError

        try:
            self._tokenizer.apply_chat_template(list(messages), tokenize=False)
        except TemplateError:
            return False
        return True


def mark_control_tokens(tokenizer: Any) -> None:
    """Tell a tokenizer which of its tokens are to be written by the chat template alone: all but our own tags."""
    tokenizer.chat_control_tokens = [
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.content not in _OWN_TAGS and not token.content.isspace()
    ]


def _pieces(tokenizer: Any) -> list[str]:
    """The text of every token; decoded after another one, for decoders drop the space before a first word."""
    before = tokenizer.encode("a", add_special_tokens=False)[-1:]
    pairs = [[*before, number] for number in range(len(tokenizer))]
    start = len(tokenizer.decode(before, clean_up_tokenization_spaces=False))
    return [text[start:] for text in tokenizer.batch_decode(pairs, clean_up_tokenization_spaces=False)]


class _Draw:
    """Chooses the next token of rows that are drawn: a row's random number falls into one token's share of [0, 1).

    Drawing like that takes one number a row and token, whichever device computes.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._places = [place for place, row in enumerate(rows) if row.temperature > 0]
        self._temperatures = [[rows[place].temperature] for place in self._places]
        self._numbers = [random.Random(rows[place].seed) for place in self._places]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores, [rows, vocabulary], of rows that are drawn replaced by one choice."""
        import torch

        if not self._places:
            return scores
        drawn = scores[self._places]
        shares = torch.softmax(drawn.float() / torch.tensor(self._temperatures, device=drawn.device), dim=-1)
        sums = torch.cumsum(shares, dim=-1)
        numbers = torch.tensor([[number.random()] for number in self._numbers], device=drawn.device)
        chosen = torch.searchsorted(sums, numbers * sums[:, -1:], right=True).clamp(max=drawn.shape[-1] - 1)
        scores = scores.clone()
        scores[self._places] = torch.full_like(drawn, float("-inf")).scatter(1, chosen, 0.0)
        return scores


class _Watch:
    """Ends rows whose text is whole, and all of them when nobody waits for them any more."""

    def __init__(self, rows: Sequence[Row], pieces: Sequence[str], stopped: Stopped) -> None:
        self._rows, self._pieces, self._stopped = rows, pieces, stopped
        self._texts = [""] * len(rows)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Whether each row is done, [rows]; called once a token."""
        import torch

        if self._stopped():
            return torch.ones(len(self._rows), dtype=torch.bool, device=input_ids.device)
        for place, token in enumerate(input_ids[:, -1].tolist()):
            self._texts[place] += self._pieces[token] if token < len(self._pieces) else ""
        done = [
            row.is_whole is not None and row.is_whole(text) for row, text in zip(self._rows, self._texts, strict=True)
        ]
        return torch.tensor(done, device=input_ids.device)
