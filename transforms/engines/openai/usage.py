"""What a chat completion says that it used, in the words of any server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.usage import Usage

# Where servers say it, most common first: OpenAI (vLLM and SGLang where they are told to, llama.cpp, OpenRouter,
# LiteLLM), OpenAI's other API behind a proxy, DeepSeek, Anthropic behind a proxy, Moonshot.
_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
_CACHED = (
    "prompt_tokens_details.cached_tokens",
    "input_tokens_details.cached_tokens",
    "prompt_cache_hit_tokens",
    "cache_read_input_tokens",
    "cached_tokens",
)
_CACHE_WRITE = (
    "prompt_tokens_details.cache_write_tokens",
    "input_tokens_details.cache_write_tokens",
    "cache_creation_input_tokens",
)
_REASONING = (
    "completion_tokens_details.reasoning_tokens",
    "output_tokens_details.reasoning_tokens",
    "reasoning_tokens",
)
_ANTHROPIC = ("cache_read_input_tokens", "cache_creation_input_tokens")
_MOST = 2**31 - 1  # no call has more, and counters are made for less than 2**63


def read_usage(usage: Any, timings: Any = None) -> Usage | None:
    """The tokens of one reply, from the fields ``usage`` and ``timings`` (llama.cpp) of its JSON.

    What is missing, of another type, negative, or more than it is a part of, is not known. None where nothing is.
    """
    tokens_in, tokens_out = _first(usage, _INPUT), _first(usage, _OUTPUT)
    cached, written = _first(usage, _CACHED), _first(usage, _CACHE_WRITE)
    reasoning = _first(usage, _REASONING)
    if cached is None:
        cached = _first(timings, ("cache_n",))
    if tokens_in is not None and _first(usage, _INPUT[:1]) is None and _first(usage, _ANTHROPIC) is not None:
        tokens_in += (cached or 0) + (written or 0)  # Anthropic counts the three apart
    total = _first(usage, ("total_tokens",))
    if tokens_in is not None and tokens_out is not None and reasoning and total == tokens_in + tokens_out + reasoning:
        tokens_out += reasoning  # so does xAI, with thoughts
    used = Usage(
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        cached_tokens=_part(cached, tokens_in),
        cache_write_tokens=_part(written, tokens_in),
        reasoning_tokens=_part(reasoning, tokens_out),
    )
    return used if used.known() else None


def _first(found: Any, paths: tuple[str, ...]) -> int | None:
    """The first number of tokens among these fields."""
    for path in paths:
        value = found
        for name in path.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        if type(value) is int and 0 <= value <= _MOST:  # a bool is an int
            return value
    return None


def _part(part: int | None, whole: int | None) -> int | None:
    return part if part is not None and whole is not None and part <= whole else None
