"""Scoring several queries against one video: what they share, the video above all, is run through the model once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from trainer.data.clips import Clip
from trainer.model.prompt import Answers, Inputs, Prompt
from trainer.model.score import answers_alone

_PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """The inputs up to where the queries of one video part, and the token ids of each from there on."""

    prefix: Inputs
    tails: tuple[tuple[int, ...], ...]


def share_prefix(prompt: Prompt, clip: Clip, queries: Sequence[str]) -> SharedPrefix:
    """Split the inputs for (clip, query) pairs where their token ids part: after the video, which comes first."""
    one = prompt.for_scoring([clip], queries[:1])
    texts = [prompt.text_ids(query) for query in queries]
    # Behind the video the ids are those of the text; before it the processor puts in a token a patch.
    behind = _common(one["input_ids"][0].tolist()[::-1], texts[0][::-1])
    shared = min(min(_common(texts[0], text), len(text) - 1) for text in texts)
    length = one["input_ids"].shape[1] - (len(texts[0]) - shared)
    if len(texts[0]) - shared > behind:
        raise ValueError("the queries part before the end of the video: the prompt must put the video first")
    prefix = {name: value[:, :length] if name in _PER_TOKEN else value for name, value in one.items()}
    return SharedPrefix(prefix, tuple(tuple(text[shared:]) for text in texts))


def shared_scores(model: Any, inputs: SharedPrefix, answers: Answers) -> torch.Tensor:
    """logit(yes) - logit(no) of every query, (queries,) in 32 bits: the same as from separate sequences.

    The prefix fills a cache of keys and values, which is then that of every tail; tails are padded on the right, where
    no token sees the padding.
    """
    prefix, tails = inputs.prefix, inputs.tails
    device, length = prefix["input_ids"].device, prefix["input_ids"].shape[1]
    with answers_alone(model, answers):
        cache = model(**prefix, use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(tails))
    longest = max(map(len, tails))
    ids = torch.zeros(len(tails), longest, dtype=torch.long, device=device)
    mask = torch.zeros(len(tails), length + longest, dtype=torch.long, device=device)
    last = torch.zeros(len(tails), longest, dtype=torch.bool, device=device)
    for row, tail in enumerate(tails):
        ids[row, : len(tail)] = torch.tensor(tail, device=device)
        mask[row, : length + len(tail)] = 1
        last[row, len(tail) - 1] = True
    positions = torch.arange(length, length + longest, device=device).expand(len(tails), -1)
    if (first := _first_position(model, inputs)) is not None:  # on three axes, after the video's own
        positions = first + (positions - length)
    with answers_alone(model, answers):
        logits = model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, logits_to_keep=last
        ).logits
    scores: torch.Tensor = logits.reshape(len(tails), 2)
    return scores[:, 0] - scores[:, 1]


def _first_position(model: Any, inputs: SharedPrefix) -> torch.Tensor | None:
    """Where a tail starts, (3, 1, 1), in models that place the patches of a frame beside each other; None in others.

    It is read off a sequence that is one token longer than the prefix. The ``rope_deltas`` that the model remembers are
    of no use: they count from the highest position, which in Qwen2.5-VL a long video's frames have, not its text.
    """
    index: Any = next((m.get_rope_index for m in model.modules() if hasattr(m, "get_rope_index")), None)
    if index is None:
        return None
    one_more = {"input_ids": inputs.tails[0][0], "attention_mask": 1, "mm_token_type_ids": 0}
    longer = {name: F.pad(inputs.prefix[name], (0, 1), value=value) for name, value in one_more.items()}
    positions: torch.Tensor = index(**inputs.prefix | longer)[0]
    return positions[:, :, -1:]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids two sequences start with alike."""
    for place, (x, y) in enumerate(zip(a, b, strict=False)):
        if x != y:
            return place
    return min(len(a), len(b))
